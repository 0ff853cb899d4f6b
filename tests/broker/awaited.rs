//! Awaited deliveries on a real broker, on any executor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_log::{Delivered, Delivery, DeliveryErrorKind, KafkaLogger, fields};
use parking_lot::Mutex;

use crate::records::who_and_n;
use crate::support::wait;
use crate::target::{LONG, Target};

fn place(logger: &KafkaLogger, who: u64, n: u64) -> Delivered {
    logger.ainfo(format_args!("record {n} of thread {who}"), fields! { who = who, n = n })
}

pub(crate) fn resolves_to_where_the_record_is(target: &Target) {
    const EACH: u64 = 200;
    let topic = target.create_topic("awaited", 3, &[]);
    let logger = target.config(&topic).build().unwrap();
    let all = |who: u64| (0..EACH).map(|n| place(&logger, who, n)).collect::<Vec<_>>();
    let mut deliveries: HashMap<(u64, u64), Delivery> = HashMap::new();

    let bare: Vec<_> = all(0).into_iter().map(futures_executor::block_on).collect();
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tokio: Vec<_> = all(1).into_iter().map(|delivered| tokio.block_on(delivered)).collect();
    let smol: Vec<_> = all(2).into_iter().map(smol::block_on).collect();
    for (who, outcomes) in [bare, tokio, smol].into_iter().enumerate() {
        for (n, outcome) in outcomes.into_iter().enumerate() {
            deliveries.insert((who as u64, n as u64), outcome.unwrap());
        }
    }

    let records = target.read(&topic, deliveries.len());
    assert_eq!(records.len(), deliveries.len());
    for record in &records {
        let delivery = &deliveries[&who_and_n(record)];
        assert_eq!((&*delivery.topic, delivery.partition), (topic.as_str(), record.partition));
        assert_eq!(delivery.offset, Some(record.offset));
    }
}

pub(crate) fn a_record_the_broker_refuses_is_told_with_its_payload(target: &Target) {
    let topic = target.create_topic("refused", 1, &[("max.message.bytes", "10000")]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let config = target.config(&topic).on_delivery_error(move |error| noted.lock().push(error.clone()));
    let logger = config.build().unwrap();
    let large = crate::topics::incompressible(100_000);
    let error = futures_executor::block_on(logger.aerror(&large, fields! {})).unwrap_err();
    assert_eq!((error.kind(), error.possibly_delivered()), (DeliveryErrorKind::Rejected, false), "{error}");
    assert!(String::from_utf8_lossy(error.payload()).contains(&large));
    futures_executor::block_on(place(&logger, 0, 0)).unwrap();
    wait::until("the callback", LONG, || told.lock().len() == 1);
    assert_eq!(told.lock()[0].payload(), error.payload());
    assert_eq!((logger.stats().failed, logger.stats().delivered), (1, 1));
}

pub(crate) fn a_frozen_broker_resolves_them_at_the_shutdown(target: &Target) {
    let topic = target.create_topic("frozen-awaited", 1, &[]);
    let logger = target.config(&topic).build().unwrap();
    futures_executor::block_on(place(&logger, 0, 0)).unwrap();
    target.broker().freeze();
    let awaited: Vec<Delivered> = (0..10).map(|n| place(&logger, 1, n)).collect();
    let report = logger.shutdown(Duration::from_millis(300));
    for delivered in awaited {
        let error = futures_executor::block_on(delivered).unwrap_err();
        assert_eq!(error.kind(), DeliveryErrorKind::Dropped(kafka_log::DropReason::Shutdown));
    }
    target.broker().thaw();
    assert_eq!((report.unsent, report.stats.delivered), (10, 1));
    let late = futures_executor::block_on(place(&logger, 1, 10)).unwrap_err();
    assert_eq!(late.kind(), DeliveryErrorKind::Closed);
}

pub(crate) fn without_acknowledgements_there_is_no_offset(target: &Target) {
    let topic = target.create_topic("acks-none", 1, &[]);
    let logger = target.config(&topic).acks(kafka_log::Acks::None).build().unwrap();
    let delivery = futures_executor::block_on(place(&logger, 0, 0)).unwrap();
    assert_eq!((&*delivery.topic, delivery.offset), (topic.as_str(), None));
}
