//! Writes the seeds where libFuzzer looks for a corpus: `ashlar-fuzz-targets DIRECTORY`.

use std::path::PathBuf;
use std::{env, fs, io};

use ashlar_fuzz_targets::TARGETS;

fn main() -> io::Result<()> {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: ashlar-fuzz-targets DIRECTORY"));
    };
    for target in TARGETS {
        let corpus = directory.join(target.name);
        fs::create_dir_all(&corpus)?;
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(corpus.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
