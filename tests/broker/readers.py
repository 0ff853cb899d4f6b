"""Reads a topic from its beginning with a Kafka client of Python, and prints what the values hash to.

Arguments: "aiokafka" or "kafka-python", bootstrap servers, topic, and how many records there are.
Prints the number of records read and the SHA-256 of their sorted values, a line feed after each.
"""

import asyncio
import hashlib
import sys

TIMEOUT_MS = 60_000


async def by_aiokafka(servers, topic, expected):
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(topic, bootstrap_servers=servers, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    try:
        values = []
        while len(values) < expected:
            batches = await consumer.getmany(timeout_ms=TIMEOUT_MS)
            if not batches:
                break
            values += [record.value for records in batches.values() for record in records]
        return values
    finally:
        await consumer.stop()


def by_kafka_python(servers, topic, expected):
    from kafka import KafkaConsumer

    consumer = KafkaConsumer(
        topic, bootstrap_servers=servers, auto_offset_reset="earliest", group_id=None, consumer_timeout_ms=TIMEOUT_MS
    )
    values = []
    for record in consumer:
        values.append(record.value)
        if len(values) == expected:
            break
    consumer.close()
    return values


def main():
    client, servers, topic, expected = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    if client == "aiokafka":
        values = asyncio.run(by_aiokafka(servers, topic, expected))
    else:
        values = by_kafka_python(servers, topic, expected)
    digest = hashlib.sha256()
    for value in sorted(values):
        digest.update(value + b"\n")
    print(len(values), digest.hexdigest())


main()
