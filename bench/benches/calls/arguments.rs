//! What is asked for.

use kafka_log_bench::task::Who;

const USAGE: &str = "\
options of the benchmark `calls`:
  --short            less of each: whether it runs and nothing is lost, not what it costs
  --rounds N         runs each so often, in turns, and shows the median of each figure (default 1)
  --only WHO,...     of floor,async,sync,hand-rolled,kafka-logger,tracing,logforth
  --parts PART,...   of table,off,lone,memory,delivery,growth (default: all but growth)
  --growth           with growth: 1 to 64 threads, and messages of 100 B to 10 KB
  --markdown         prints the tables as PERFORMANCE.md has them";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What a call costs each logger.
    Table,
    /// A call below the level that is logged.
    Off,
    /// One record at a time.
    Lone,
    /// What is resident with no broker.
    Memory,
    /// End to end.
    Delivery,
    /// More threads, longer messages.
    Growth,
}

const PARTS: [(&str, Part); 6] = [
    ("table", Part::Table),
    ("off", Part::Off),
    ("lone", Part::Lone),
    ("memory", Part::Memory),
    ("delivery", Part::Delivery),
    ("growth", Part::Growth),
];

#[derive(Debug)]
pub struct Arguments {
    pub short: bool,
    pub rounds: usize,
    pub who: Vec<Who>,
    pub parts: Vec<Part>,
    pub markdown: bool,
}

impl Arguments {
    /// Cargo adds `--bench`.
    pub fn read() -> Arguments {
        let parts = PARTS.iter().map(|(_, part)| *part).filter(|part| *part != Part::Growth).collect();
        let mut read = Arguments { short: false, rounds: 1, who: Who::ALL.to_vec(), parts, markdown: false };
        let mut growth = false;
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--short" => read.short = true,
                "--rounds" => read.rounds = value().parse().expect("a number of rounds"),
                "--only" => read.who = value().split(',').map(who).collect(),
                "--parts" => read.parts = value().split(',').map(part).collect(),
                "--growth" => growth = true,
                "--markdown" => read.markdown = true,
                "--bench" => {}
                other => panic!("{other} is not known\n{USAGE}"),
            }
        }
        if growth && !read.parts.contains(&Part::Growth) {
            read.parts.push(Part::Growth);
        }
        assert!(read.rounds > 0, "no rounds, no figures");
        read
    }

    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

fn who(word: &str) -> Who {
    Who::ALL.into_iter().find(|who| who.word() == word).unwrap_or_else(|| panic!("there is no {word}\n{USAGE}"))
}

fn part(word: &str) -> Part {
    let part = PARTS.iter().find(|(name, _)| *name == word);
    part.unwrap_or_else(|| panic!("there is no part {word}\n{USAGE}")).1
}
