//! Awaited deliveries through the logger that `init` installed.

use std::time::Duration;

use futures_executor::block_on;
use kafka_log::{DeliveryErrorKind, Startup};

use crate::broker::Broker;
use crate::child::{Child, Scenario, config};
use crate::scenarios;

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        a_warmed_up_awaited_macro_delivers_its_record => |transport| {
            let early = block_on(kafka_log::ainfo!("too early")).unwrap_err();
            assert_eq!(early.kind(), DeliveryErrorKind::NotInitialised);

            let _guard = kafka_log::init(config(transport).startup(Startup::Check(Duration::from_secs(30)))).unwrap();
            let user = "u_19";
            let delivery = block_on(kafka_log::ainfo!(n = 0, user, list:? = [1, 2]; "user {}", "authenticated")).unwrap();
            assert_eq!(delivery.offset, Some(0));
            let delivery = block_on(kafka_log::acritical!(target: "audit", "n" = 1; "ledger")).unwrap();
            assert_eq!(delivery.offset, Some(1));
            block_on(kafka_log::awarning!(target: "audit", "no fields")).unwrap();
            block_on(kafka_log::aerror!("no {}", "fields")).unwrap();
            let filtered = block_on(kafka_log::adebug!("filtered")).unwrap_err();
            assert_eq!(filtered.kind(), DeliveryErrorKind::Filtered);
            let filtered = block_on(kafka_log::atrace!("filtered")).unwrap_err();
            assert_eq!(filtered.target(), Some(module_path!()));
        };
    }
}

fn a_warmed_up_awaited_macro_delivers_its_record(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let records = broker.records();
    assert_eq!(records.len(), 4);
    assert_eq!(
        (&records[0]["user"], &records[0]["list"], &records[0]["n"]),
        (&"u_19".into(), &"[1, 2]".into(), &0.into())
    );
    assert_eq!(
        (&records[1]["level"], &records[1]["logger"], &records[1]["n"]),
        (&"critical".into(), &"audit".into(), &1.into())
    );
    assert_eq!((&records[2]["level"], &records[3]["message"]), (&"warning".into(), &"no fields".into()));
}
