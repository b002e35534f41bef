//! This program as another process: what it says, how it ends.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Before everything that a child says, to tell it from the lines of the test harness.
const MARK: &str = "@@ ";

/// Tells a child which folder it works on. Without it the tests that are children do nothing.
const FOLDER_VARIABLE: &str = "ASCRIBE_TEST_FOLDER";

/// Tells a child what is asked of it beyond its name.
const TASK_VARIABLE: &str = "ASCRIBE_TEST_TASK";

/// A child that says nothing for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// In a child: its folder and task. `None` when the test harness runs it as a test.
pub(crate) fn role() -> Option<(std::path::PathBuf, String)> {
    let folder = std::env::var_os(FOLDER_VARIABLE)?;
    Some((folder.into(), std::env::var(TASK_VARIABLE).unwrap_or_default()))
}

/// In a child: tells the parent.
pub(crate) fn say(what: impl std::fmt::Display) {
    println!("{MARK}{what}");
    // The line is whole on the pipe before the next step begins, so that the parent never hears of it late.
    std::io::stdout().flush().unwrap();
}

/// A process that ends with this value, killed if it still runs.
pub(crate) struct Child {
    process: Process,
    lines: Receiver<(Instant, String)>,
}

impl Child {
    /// Runs the test `name` of this program as a process of its own.
    pub(crate) fn start(name: &str, folder: &Path, task: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        Self::run(Command::new(program), name, folder, task)
    }

    /// As [`start`](Self::start), behind a command that ends by executing this program: `command PROGRAM ARGUMENTS`.
    pub(crate) fn start_behind(mut command: Command, name: &str, folder: &Path, task: &str) -> Self {
        command.arg(std::env::current_exe().unwrap());
        Self::run(command, name, folder, task)
    }

    fn run(mut command: Command, name: &str, folder: &Path, task: &str) -> Self {
        let mut process = command
            .args([name, "--exact", "--nocapture"])
            .env(FOLDER_VARIABLE, folder)
            .env(TASK_VARIABLE, task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { break };
                // The harness may have begun the line.
                let said = line.split_once(MARK).map(|(_, said)| said.to_owned());
                if said.is_some_and(|said| sender.send((Instant::now(), said)).is_err()) {
                    break;
                }
            }
        });
        Self { process, lines }
    }

    /// The next thing it says, and when; `None` once it has ended.
    pub(crate) fn hear(&self) -> Option<(Instant, String)> {
        match self.lines.recv_timeout(SILENCE_MAX) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("a child said nothing for {SILENCE_MAX:?}"),
        }
    }

    /// Waits for it to say `what`.
    pub(crate) fn expect(&self, what: &str) {
        let said = self.hear().map(|(_, said)| said);
        assert_eq!(said.as_deref(), Some(what), "the child ended or said something else");
    }

    /// Asks for something.
    pub(crate) fn ask(&mut self, what: &str) {
        let input = self.process.stdin.as_mut().unwrap();
        writeln!(input, "{what}").unwrap();
        input.flush().unwrap();
    }

    /// SIGKILL. Returns everything it had said that was not heard yet, and how it ended.
    pub(crate) fn kill(mut self) -> (Vec<(Instant, String)>, ExitStatus) {
        self.process.kill().unwrap();
        let status = self.process.wait().unwrap();
        // The pipe has ended with the process: this ends too.
        (self.lines.iter().collect(), status)
    }

    /// Waits for its end, which must be a good one; returns what it said that was not heard yet.
    pub(crate) fn end(mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        let mut said = Vec::new();
        while let Some((_, line)) = self.hear() {
            said.push(line);
        }
        let status = self.process.wait().unwrap();
        assert!(status.success(), "the child failed ({status}), see its output above; it said {said:?}");
        said
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // After `kill` or `end` there is nothing left to do, and these fail.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
