//! What is forbidden kills the process that tries it, and what a conversion needs works.
//!
//! Each attempt runs in a process of its own, which is this test started again.

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output, Stdio};

use ashlar_convert::confine;
use nix::sys::signal::{Signal, kill};
use nix::unistd::getppid;

type Attempt = (&'static str, fn());

/// Each would do harm if it worked; `confine` comes before it.
const FORBIDDEN: &[Attempt] = &[
    ("open a file", || drop(File::open("/etc/passwd"))),
    ("make a file", || drop(File::create("/tmp/ashlar-convert"))),
    ("list a folder", || drop(fs::read_dir("/"))),
    ("look at a file", || drop(fs::metadata("/etc/passwd"))),
    ("remove a file", || drop(fs::remove_file("/no/such/file"))),
    ("listen", || drop(TcpListener::bind("127.0.0.1:0"))),
    ("send to the network", || drop(UdpSocket::bind("[::1]:0"))),
    ("speak to a daemon", || drop(UnixDatagram::unbound())),
    ("start a program", || {
        drop(Command::new("/bin/true").spawn())
    }),
    ("start a thread", || {
        drop(std::thread::Builder::new().spawn(|| ()))
    }),
    ("be traced", || ignore(nix::sys::ptrace::traceme())),
    ("trace its parent", || {
        ignore(nix::sys::ptrace::attach(getppid()))
    }),
    ("signal its parent", || ignore(kill(getppid(), None))),
    ("take back its limits", || {
        use nix::sys::resource::{Resource, setrlimit};
        ignore(setrlimit(Resource::RLIMIT_NOFILE, 5, 5));
    }),
    ("read standard input in other ways", || {
        drop(std::io::stdin().read(&mut [0]));
    }),
];

/// Nobody lives to see it.
fn ignore(_outcome: nix::Result<()>) {}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match &arguments[..] {
        [_, word, name] if word == "--attempt" => attempt(name),
        _ => all(),
    }
}

fn all() {
    for (name, _) in FORBIDDEN {
        let output = in_a_process(name);
        let signal = output.status.signal();
        assert_eq!(signal, Some(Signal::SIGSYS as i32), "{name}: {output:?}");
        assert_eq!(output.stdout, b"confined\n", "{name}");
    }
    let status = in_a_process("take a gigabyte").status;
    assert!(died(status), "{status}");
    let output = in_a_process("read and write");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"confined\nroot");
    println!("{} passed, 0 failed", FORBIDDEN.len() + 2);
}

fn died(status: ExitStatus) -> bool {
    status.signal().is_some()
}

fn in_a_process(name: &str) -> Output {
    Command::new(env::current_exe().unwrap())
        .args(["--attempt", name])
        .stdin(File::open("/etc/passwd").unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

fn attempt(name: &str) {
    let image = File::open("/etc/passwd").unwrap();
    confine().unwrap();
    println!("confined");
    if name == "read and write" {
        let mut bytes = [0; 4];
        image.read_exact_at(&mut bytes, 0).unwrap();
        std::io::stdout().write_all(&bytes).unwrap();
        return;
    }
    if name == "take a gigabyte" {
        let memory = vec![1_u8; 1 << 30];
        println!("{}", memory[memory.len() / 2]);
        return;
    }
    let (_, forbidden) = FORBIDDEN.iter().find(|(other, _)| *other == name).unwrap();
    forbidden();
    println!("it worked");
}
