//! Tests of several processes: a test's program starts itself again, once per process, with one scene to play.

#![allow(dead_code)]

use std::{
    env,
    io::Read,
    net::TcpListener,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// The scene that this process is to play, in the test called `worker`.
pub fn scene() -> Option<String> {
    env::var("METAREWARD_TEST_SCENE").ok()
}

/// How a process ended, and what it said.
pub struct Ended {
    pub status: ExitStatus,
    pub said: String,
    pub seconds: f64,
}

/// A port that nobody has at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// This program, told to play `scene` alone.
pub fn player(scene: &str, settings: &[(&str, String)]) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "worker", "--ignored", "--nocapture", "--test-threads", "1"]);
    prepare(&mut command, scene, settings);
    command
}

/// Gives `command` the scene's environment, and takes away what the launcher of the tests may have left.
pub fn prepare(command: &mut Command, scene: &str, settings: &[(&str, String)]) {
    for name in ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_ID"] {
        command.env_remove(name);
    }
    command.env("METAREWARD_TEST_SCENE", scene).env("OMP_NUM_THREADS", "1").env("GLOO_SOCKET_IFNAME", "lo");
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Starts `size` processes that play `scene` and waits for all of them. One that takes longer than `limit` is killed, and
/// the test fails.
pub fn play(scene: &str, size: usize, settings: &[(&str, String)], limit: Duration) -> Vec<Ended> {
    let port = free_port();
    let begun = Instant::now();
    let children: Vec<Child> = (0..size)
        .map(|rank| {
            let mut command = player(scene, settings);
            command.env("RANK", rank.to_string()).env("WORLD_SIZE", size.to_string());
            command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
            command.spawn().unwrap()
        })
        .collect();
    // Each one's output is read as it comes: a full pipe would stop it.
    let threads: Vec<_> =
        children.into_iter().map(|child| std::thread::spawn(move || end(child, begun, limit))).collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Waits for `child`, `limit` after `begun` at most.
pub fn end(mut child: Child, begun: Instant, limit: Duration) -> Ended {
    let (mut out, mut errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = out.read_to_string(&mut text);
        text
    });
    let other = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let seconds = begun.elapsed().as_secs_f64();
            let said = reader.join().unwrap() + &other.join().unwrap();
            return Ended { status, said, seconds };
        }
        if begun.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("a process took more than {limit:?}; it said: {}", reader.join().unwrap() + &other.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Fails unless every process ended well.
pub fn all_well(ended: &[Ended]) {
    for (rank, process) in ended.iter().enumerate() {
        assert!(process.status.success(), "process {rank}: {}\n{}", process.status, process.said);
    }
}
