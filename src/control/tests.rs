use super::*;
use crate::station::event::{Command, Counts};
use crate::status::{State, Status};
use crate::units::{Instant, Micros, RecipeId};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

pub(crate) fn status() -> Status {
    Status {
        station: "L3".into(),
        recipe: "cap".into(),
        state: State::Running,
        permit: true,
        counts: Counts {
            seen: 3,
            passed: 2,
            in_flight: 1,
            ..Counts::default()
        },
        unjudged: 0,
        parts_per_min: 60.0,
        reject_rate: 0.01,
        belt_mm_s: 300.0,
        last: None,
        last_reject: None,
        margin: None,
        outputs: None,
        alarms: Vec::new(),
        passed_verified: true,
        uptime: Micros::from_secs(90),
        at: Instant::ZERO,
    }
}

type Log = Arc<Mutex<Vec<Command>>>;

fn station(record: &Path, busy: bool) -> (Control, Log) {
    let log = Log::default();
    let told = Arc::clone(&log);
    let setup = Setup {
        record: record.to_owned(),
        recipes: vec!["cap".into(), "lid".into()],
        status: Box::new(|| Arc::new(status())),
        command: Box::new(move |command| {
            told.lock().unwrap().push(command);
            !busy
        }),
    };
    (Control::start(setup).unwrap(), log)
}

fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    // A busy station closes at once, perhaps before the request is written: then there is no reply.
    if stream.write_all(bytes).is_err() || stream.shutdown(std::net::Shutdown::Write).is_err() {
        return String::new();
    }
    let mut reply = String::new();
    // A refused request may be cut off by the other side before all of it was read.
    let _ = stream.read_to_string(&mut reply);
    reply
}

#[test]
fn status_acknowledge_and_changeover_reach_the_station() {
    let dir = tempfile::tempdir().unwrap();
    let (control, log) = station(dir.path(), false);
    let mode = std::fs::metadata(control.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let client = Client::find(Some(dir.path())).unwrap();
    assert_eq!(client.status().unwrap(), status());
    client.acknowledge().unwrap();
    client.changeover("lid").unwrap();
    assert_eq!(
        *log.lock().unwrap(),
        [Command::Acknowledge, Command::Changeover(RecipeId(1))]
    );
    let error = client.changeover("cup").unwrap_err().to_string();
    assert!(
        error.contains("no recipe `cup`") && error.contains("`cap`, `lid`"),
        "{error}"
    );
    drop(control);
    assert!(client.status().unwrap_err().is_unreachable());
    assert!(!socket_path(dir.path()).exists());
}

#[test]
fn a_station_without_room_for_a_command_says_so_instead_of_losing_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_control, _) = station(dir.path(), true);
    let client = Client::find(Some(&socket_path(dir.path()))).unwrap();
    assert!(matches!(client.acknowledge(), Err(ClientError::Refused(why)) if why.contains("busy")));
}

#[test]
fn nonsense_is_answered_and_the_next_client_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (control, log) = station(dir.path(), false);
    for nonsense in [
        &b"\n"[..],
        b"{}\n",
        b"status\n",
        b"{\"request\":\"stop\"}\n",
        b"{\"request\":\"acknowledge\",\"force\":true}\n",
        b"{\"request\":\"changeover\"}\n",
        b"\xff\xfe\n",
        b"",
    ] {
        let reply = raw(control.path(), nonsense);
        assert!(reply.starts_with("{\"error\":"), "{nonsense:?} gave {reply:?}");
    }
    raw(control.path(), &vec![b' '; 10 * REQUEST_MAX]);
    assert_eq!(*log.lock().unwrap(), []);
    assert!(raw(control.path(), b"{\"request\":\"status\"}\n").starts_with("{\"status\":"));
}

#[test]
fn silent_clients_do_not_keep_others_out_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let (control, _) = station(dir.path(), false);
    let silent: Vec<_> = (0..20)
        .map(|_| UnixStream::connect(control.path()).unwrap())
        .collect();
    // Each of them is thrown out in time, so that one more is served while they still hold on.
    let served = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        raw(control.path(), b"{\"request\":\"status\"}\n").starts_with("{\"status\":")
    });
    assert!(served);
    drop(silent);
}

#[test]
fn a_socket_left_by_a_killed_station_is_taken_over_and_a_long_path_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let record = dir
        .path()
        .join("a-record-folder-with-a-name-that-is-rather-long/".repeat(4));
    std::fs::create_dir_all(&record).unwrap();
    assert!(socket_path(&record).as_os_str().len() > 108);
    let (control, _) = station(&record, false);
    // As after kill -9: the file is there, nobody listens.
    std::mem::forget(control);
    let (_second, _) = station(&record, false);
    Client::find(Some(&record)).unwrap().status().unwrap();
}

#[test]
fn a_client_says_which_station_it_looked_for() {
    let error = Client::find(Some(Path::new("/nowhere/control.sock")))
        .unwrap()
        .status()
        .unwrap_err();
    assert!(error.is_unreachable());
    assert!(error.to_string().contains("/nowhere/control.sock"), "{error}");
}
