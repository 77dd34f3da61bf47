//! Every target over its seeds, over what once broke it, and over mutations of both.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{fs, panic};

use ashlar_fuzz_targets::{TARGETS, Target};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Counts panics of every thread; those of tasks and of servers' threads go no further else.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        report(info);
    }));
}

#[test]
fn no_input_breaks_a_rule() {
    count_panics();
    let broken: Vec<String> = TARGETS.iter().filter_map(|t| try_all(t).err()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn try_all(target: &Target) -> Result<(), String> {
    let start = Instant::now();
    let mut inputs = (target.seeds)();
    assert!(!inputs.is_empty(), "{} has no seed", target.name);
    inputs.extend(found(target));
    for input in &inputs {
        feed(target, input)?;
    }
    let mut random = Random(0x5eed);
    for _ in 0..target.rounds {
        feed(target, &mutation(&inputs, &mut random))?;
    }
    println!("{}: {} ms", target.name, start.elapsed().as_millis());
    Ok(())
}

fn feed(target: &Target, input: &[u8]) -> Result<(), String> {
    let outcome = panic::catch_unwind(|| (target.run)(input));
    if outcome.is_ok() && PANICS.swap(0, Ordering::Relaxed) == 0 {
        return Ok(());
    }
    PANICS.store(0, Ordering::Relaxed);
    Err(format!(
        "{} breaks on {}",
        target.name,
        input.escape_ascii()
    ))
}

/// Inputs that broke it once.
fn found(target: &Target) -> Vec<Vec<u8>> {
    let directory = Path::new(HERE).join("found").join(target.name);
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

fn mutation(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(4) {
        mutate(&mut bytes, inputs, random);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, inputs: &[Vec<u8>], random: &mut Random) {
    const TELLING: [u8; 10] = [0, 1, 0x17, 0x18, 0x1b, 0x7f, 0x80, 0xa0, 0xf6, 0xff];
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(9)).min(bytes.len());
    match random.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = TELLING[random.below(TELLING.len())],
        2 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(1),
        3 => bytes.insert(at, TELLING[random.below(TELLING.len())]),
        4 => drop(bytes.drain(at..end)),
        5 => bytes.extend_from_within(at..end),
        6 => bytes.truncate(at),
        _ => {
            let other = &inputs[random.below(inputs.len())];
            let from = random.below(other.len() + 1);
            let to = (from + random.below(40)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
    }
}

#[test]
fn each_target_has_its_harness() {
    let names: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_owned()).collect();
    let harness = Path::new(HERE).join("libfuzzer");
    let manifest = fs::read_to_string(harness.join("Cargo.toml")).unwrap();
    let mut built = BTreeSet::new();
    for entry in fs::read_dir(harness.join("fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let source = fs::read_to_string(&path).unwrap();
        assert!(
            source.contains(&format!("ashlar_fuzz_targets::{name}::run(")),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        built.insert(name);
    }
    assert_eq!(built, names);
}
