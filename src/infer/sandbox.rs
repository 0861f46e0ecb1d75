//! First contact with a model file happens in a child process.
//!
//! A damaged or hostile ONNX file can make a reader panic, loop or ask for all
//! memory there is. So a file from outside is first loaded, optimised and run
//! once in a child with limits on memory and time; only what comes back whole is
//! loaded here. The child is this same program, started with [`SUBCOMMAND`]; it
//! gets the bytes over its standard input, so that what was checked is what
//! will be run. Models that are compiled in skip all this.

use super::graph::{self, Expected, Facts, Opened};
use super::int8::plan::State;
use super::manifest::ModelInfo;
use crate::kernels::isa::Isa;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tract_core::internal::*;

/// Hidden subcommand that makes a process the child.
pub const SUBCOMMAND: &str = "probe-model";

/// Opens the child's answer, so that no other program's output is taken for it.
const ANSWER: &str = "elek-probe-1 ";

/// More than an answer or a panic message ever needs.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// What the child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Address space.
    pub memory_bytes: u64,
    pub cpu_s: u64,
    pub wall: Duration,
}

impl Limits {
    /// tract needs about ten times the file while it optimises, on top of the
    /// program itself; a Cortex-A53 needs some seconds for what takes half a second here.
    pub fn for_file(bytes: usize) -> Limits {
        let memory = (512 << 20) + 24 * bytes as u64;
        Limits {
            memory_bytes: memory.min(usize::MAX as u64 / 2),
            cpu_s: 60,
            wall: Duration::from_secs(90),
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Facts(Facts),
    Error(String),
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Which program to start as the child, when this one is not elek itself (a test, say).
pub fn use_program(path: impl Into<PathBuf>) {
    // Whoever came first had the same need; a second answer changes nothing.
    let _ = PROGRAM.set(path.into());
}

/// Facts already found, so that each worker thread need not ask again.
static KNOWN: Mutex<Vec<(Key, Facts)>> = Mutex::new(Vec::new());
type Key = ([u8; 32], u32, String, String);

/// What the graph of a model holds; for a file from outside found by the child.
pub fn examine(info: &ModelInfo) -> Result<Facts> {
    examine_bytes(&info.bytes()?, info)
}

/// Like [`examine`], for bytes already read and checked against `info.sha256`.
pub fn examine_bytes(bytes: &[u8], info: &ModelInfo) -> Result<Facts> {
    let key: Key = (
        info.sha256,
        info.size,
        info.input_name.clone(),
        info.output_name.clone(),
    );
    // The lock is held over the probe on purpose: others want the same answer.
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let facts = match known.iter().find(|(k, _)| *k == key) {
        Some((_, facts)) => facts.clone(),
        None => {
            let facts = if info.is_builtin() {
                graph::open(bytes, &Expected::from(info)).map(|(_, facts)| facts)
            } else {
                probe(bytes, &Expected::from(info), Limits::for_file(bytes.len()))
            };
            let facts = facts.with_context(|| format!("model {}", info.file_text()))?;
            known.push((key, facts.clone()));
            facts
        }
    };
    graph::check_output(info, &facts).with_context(|| format!("model {}", info.file_text()))?;
    Ok(facts)
}

/// Lets a child load the model and run it once.
pub fn probe(bytes: &[u8], expected: &Expected, limits: Limits) -> Result<Facts> {
    let program = match PROGRAM.get() {
        Some(path) => path.clone(),
        None => {
            std::env::current_exe().context("cannot tell which program this is, to start it for the model")?
        }
    };
    let mut child = Command::new(&program)
        // Its environment is empty: what was chosen for this program has to be said.
        .args(["--kernels", Isa::best().name()])
        .args([
            SUBCOMMAND,
            &limits.memory_bytes.to_string(),
            &limits.cpu_s.to_string(),
        ])
        .args([&expected.size.to_string(), expected.input, expected.output])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {} to load the model first", program.display()))?;
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (status, stdout, stderr) = thread::scope(|scope| {
        // A child that ends early closes its end; what it said is the better error.
        scope.spawn(move || stdin.take().map(|mut pipe| pipe.write_all(bytes)));
        let stdout = scope.spawn(|| read_all(stdout));
        let stderr = scope.spawn(|| read_all(stderr));
        let status = wait(&mut child, limits.wall);
        (
            status,
            stdout.join().unwrap_or_default(),
            stderr.join().unwrap_or_default(),
        )
    });
    let status = status.context("cannot wait for the process that loads the model")?;
    let Some(status) = status else {
        bail!(
            "loading it took longer than {} s; this is no model for this station",
            limits.wall.as_secs()
        );
    };
    if let Some(json) = stdout.lines().find_map(|line| line.strip_prefix(ANSWER)) {
        return match serde_json::from_str(json)
            .context("the process that loads the model answered nonsense")?
        {
            Answer::Facts(facts) => Ok(facts),
            Answer::Error(text) => bail!("{text}"),
        };
    }
    bail!("{}", why_no_answer(status, &stderr, limits, &program))
}

/// The exit status, or `None` when the time was over and the child was killed.
fn wait(child: &mut Child, time: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= time {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Keeps the beginning and lets the rest pass, so that the child never blocks on it.
fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // On an error the child is gone, and its status says why.
        let _ = pipe.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn why_no_answer(status: ExitStatus, stderr: &str, limits: Limits, program: &std::path::Path) -> String {
    let signal = status.signal();
    // Rust's own words, and those of tract.
    if stderr.contains("memory allocation of") || stderr.contains("failed to allocate") {
        return too_much_memory(limits.memory_bytes);
    }
    if signal == Some(Signal::XCPU.as_raw()) || signal == Some(Signal::KILL.as_raw()) {
        return format!(
            "loading it took more than {} s; it is damaged, or no model for this station",
            limits.cpu_s
        );
    }
    if let Some(signal) = signal {
        return format!("the reader crashed on it (signal {signal}); the file is damaged");
    }
    if let Some((_, told)) = stderr.split_once("panicked at") {
        // The first line is a place in the source; the message follows.
        let told = graph::brief(&anyhow::anyhow!(
            "{}",
            told.lines().nth(1).unwrap_or_default().to_owned()
        ));
        return format!("the reader gave up on it; the file is damaged ({told})");
    }
    format!(
        "{} was started to load the model first, but is not elek (it ended with {status}); \
         a program that uses elek as a library calls infer::sandbox::use_program",
        program.display()
    )
}

fn too_much_memory(limit_bytes: u64) -> String {
    let memory = limit_bytes >> 20;
    format!("loading it needs more than {memory} MB of memory; it is damaged, or no model for this station")
}

/// The child's work: `args` are those after [`SUBCOMMAND`].
pub fn child(args: Vec<OsString>) -> ExitCode {
    let answer = match child_work(&args) {
        Ok(facts) => Answer::Facts(facts),
        Err(error) => Answer::Error(graph::brief(&error)),
    };
    let json = serde_json::to_string(&answer).unwrap_or_default();
    match writeln!(std::io::stdout(), "{ANSWER}{json}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn child_work(args: &[OsString]) -> Result<Facts> {
    let args: Option<Vec<&str>> = args.iter().map(|a| a.to_str()).collect();
    let Some([memory, cpu, size, input, output]) = args.as_deref() else {
        bail!("{SUBCOMMAND} is started by elek itself, not by people");
    };
    let memory = memory.parse()?;
    limit(Resource::As, memory)?;
    limit(Resource::Cpu, cpu.parse()?)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| match error.kind() {
            ErrorKind::OutOfMemory => anyhow::anyhow!(too_much_memory(memory)),
            _ => error.into(),
        })?;
    let expected = Expected {
        size: size.parse()?,
        input,
        output,
    };
    let (opened, facts) = graph::open(&bytes, &expected)?;
    let zero = Tensor::zero::<f32>(&[1, 3, expected.size, expected.size])?;
    match opened {
        Opened::Whole(plan) => State::new(plan).run(&[zero.try_as_plain_ram()?.as_slice::<f32>()?])?,
        Opened::Mixed(model) => {
            let outputs = TypedSimplePlan::new(model)?.run(tvec!(zero.into_tvalue()))?;
            ensure!(
                outputs[0].shape() == facts.output_shape,
                "the output has shape {:?}",
                outputs[0].shape()
            );
        }
    }
    Ok(facts)
}

fn limit(resource: Resource, most: u64) -> Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(resource, limit).with_context(|| format!("cannot limit {resource:?} to {most}"))
}
