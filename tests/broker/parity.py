"""An application of the Python sink: logs what parity.rs logs, literal by literal.

Arguments: "records" or "differences", and the sink's configuration dictionary as JSON.
Prints a JSON array: for each call None, or the exception that it raised.
"""

import asyncio
import datetime
import json
import sys
import warnings

from jazzmine.logging.config import ConfigLoader, ConfigValidator, LoggingConfigurator


class Label:
    def __str__(self):
        return "a label"


# Level, message, extra fields.
RECORDS = [
    ("debug", "nothing else", {}),
    ("info", "user authenticated", dict(user_id="u_19", attempts=3)),
    (
        "warning",
        'a "message" \\ of\ntwo lines \0 \x1b[31m \x7f \u2028 naïve 日本語 🦀',
        dict(
            empty="",
            quotes="say \"hi\" \\ 'bye' </script>",
            lines="one\ntwo\r\n\tthree\x08\x0c",
            controls="\0\x01\x1b[31m\x7f\x85",
            unicode="naïve Straße 日本語 🦀 \u2028\u200f\ufeff\uffff",
            looks_like_a_number="1.0",
        ),
    ),
    (
        "error",
        "",
        dict(
            zero=0,
            minus=-7,
            port=9092,
            max=2**63 - 1,
            min=-(2**63),
            unsigned=2**64 - 1,
            big=2**100,
            bigger=2**128 - 1,
            minus_big=-(2**127),
        ),
    ),
    (
        "critical",
        "floats",
        dict(
            half=0.5,
            whole=1.0,
            minus_zero=-0.0,
            tenth=0.1,
            third=1 / 3,
            e7=1e-7,
            e16=1e16,
            e22=1e22,
            largest=1.7976931348623157e308,
            smallest=5e-324,
        ),
    ),
    ("info", "neither text nor number", dict(yes=True, no=False, nothing=None)),
    (
        "error",
        "nested",
        dict(
            request={
                "path": '/a"b',
                "attempt": 2,
                "took": 0.25,
                "cached": False,
                "user": None,
                "tags": ["a", "ü\n"],
                "peer": {"host": "127.0.0.1", "port": 9092},
            },
            list=[1, -2, 3],
            mixed=(1, "two", 3.0, True, None, [], [[1]]),
            numbered={1: "one", -2: "minus two"},
            answered={True: "yes"},
            no_list=[],
            no_object={},
        ),
    ),
    ("warning", "keys", {"user id": 1, "a.b": 2, 'quo"te\n': 3, "ключ": 4, "": 5, "fields.level": 6, "Level": 7}),
    ("critical", "many", {f"k{n}": n for n in range(100)}),
]

DIFFERENCES = [
    ("info", "overwritten", dict(timestamp="t", logger="l", message="m", user_id="u_19")),
    ("info", "target", dict(target="t")),
    ("info", "level", dict(level="mine")),
    ("info", "msg", dict(msg="mine")),
    ("info", "not finite", dict(nan=float("nan"), infinity=float("-inf"))),
    ("info", "no json", dict(label=Label())),
    ("info", "no json either", dict(at=datetime.timedelta(seconds=2))),
    ("info", 42, {}),
    ("info", "ü", dict(a=1)),
    ("error", "below critical", {}),
    ("critical", "critical", {}),
]


def sink_of(dictionary):
    """The sink, by the package's own loader."""
    logging = {
        "name": dictionary["logger_name"],
        "level": dictionary["level"],
        "json": dictionary["use_json"],
        "sinks": [dictionary],
    }
    logging = ConfigLoader.merge_defaults(ConfigLoader.load(logging))
    ConfigValidator.validate(logging)
    # The loader only warns of a sink that it cannot make.
    warnings.simplefilter("error")
    [sink] = LoggingConfigurator.create_sink_loggers(logging)
    warnings.simplefilter("default")
    sink.initialize()
    return sink


def log(sink, records):
    outcomes = []
    for level, message, fields in records:
        try:
            getattr(sink, level)(message, **fields)
            outcomes.append(None)
        except Exception as error:
            outcomes.append(repr(error))
    sink.shutdown()
    return outcomes


async def alog(sink, records):
    outcomes = []
    # The sink's other half is silent: this must not arrive.
    sink.critical("a call without await")
    for level, message, fields in records:
        try:
            await getattr(sink, "a" + level)(message, **fields)
            outcomes.append(None)
        except Exception as error:
            outcomes.append(repr(error))
    # The sink's own `shutdown` starts the same and does not wait for it.
    await sink.producer.stop()
    return outcomes


async def awaited(dictionary, records):
    # aiokafka's producer belongs to the loop in which it was made.
    return await alog(sink_of(dictionary), records)


def main():
    records = {"records": RECORDS, "differences": DIFFERENCES}[sys.argv[1]]
    dictionary = json.loads(sys.argv[2])
    if dictionary["async"]:
        outcomes = asyncio.run(awaited(dictionary, records))
    else:
        outcomes = log(sink_of(dictionary), records)
    print(json.dumps(outcomes))


main()
