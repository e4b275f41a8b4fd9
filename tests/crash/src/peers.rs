//! Who modules talk to beside files: a php-fpm pool and a Varnish server, each a thread that
//! keeps what it knows in a file, so that it is put back and compared as all other files are.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use oxistrano_harness::{Value, json};

/// What the pool knows at first: it was asked for the live release through `current`, and
/// keeps that.
pub const OPCACHE: &str = r#"{"compiled":[],"resets":0}"#;
/// The scripts that the pool holds of the live release.
const SCRIPTS: [&str; 3] = ["pub/index.php", "lib.php", "src/Class.php"];

/// A pool that answers at `socket` as the module's script would. It is gone with this process.
/// Returns what it listens on: who calls `listen()` on that is taken for its maker.
pub fn pool(socket: &Path, file: PathBuf, entry: PathBuf) -> UnixListener {
    let listener = UnixListener::bind(socket).expect("the pool's socket");
    let same = listener.try_clone().expect("a second handle");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Some((params, body)) = request(&stream) else { continue };
            let answer = answer(&file, &entry, &params, &body);
            let mut stream = stream;
            for part in answer.as_bytes().chunks(60_000) {
                let [high, low] = (part.len() as u16).to_be_bytes();
                let _ = stream.write_all(&[&[1, 6, 0, 1, high, low, 0, 0], part].concat());
            }
            let _ = stream.write_all(&[1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
    });
    same
}

/// Waits until the pool has done what it was asked for before.
pub fn settle_pool(socket: &Path) {
    let mut stream = UnixStream::connect(socket).expect("the pool");
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The parameters and the body; `None` from one who only connects, or is dead by now.
fn request(mut stream: &UnixStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut params, mut body) = (Vec::new(), Vec::new());
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).ok()?;
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut content = vec![0; length + usize::from(header[6])];
        stream.read_exact(&mut content).ok()?;
        content.truncate(length);
        match header[1] {
            4 => params.extend(content),
            5 if length == 0 => return Some((params, body)),
            5 => body.extend(content),
            _ => {}
        }
    }
}

/// What the script says, between its marks.
fn answer(file: &Path, entry: &Path, params: &[u8], body: &[u8]) -> String {
    let text = String::from_utf8_lossy(params);
    let after = |name: &str| text.split_once(name).map(|(_, rest)| rest).unwrap_or_default();
    let script = after("SCRIPT_FILENAME").split_inclusive(".php").next().unwrap_or_default();
    if fs::read_to_string(script).map_or(true, |source| !source.trim_end().ends_with('}')) {
        // Not there any more, or not all of it.
        return "Status: 404 Not Found\r\n\r\nFile not found.\n".to_owned();
    }
    let mark: String = after("OXISTRANO_MARK").chars().take(32).collect();
    let question: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut state: Value =
        serde_json::from_slice(&fs::read(file).unwrap_or_default()).unwrap_or_default();
    let resets = state["resets"].as_u64().unwrap_or(0);
    let mut answer = json!({
        "php": "8.2", "opcache": "enabled", "statistics": {"start_time": 10},
    });
    match question["ask"].as_str() {
        Some("reset") => {
            state = json!({"compiled": [], "resets": resets + 1});
            answer["reset"] = true.into();
        }
        Some("scripts") => answer["names"] = json!(SCRIPTS),
        Some("stale") if resets == 0 => answer["paths"] = json!([entry]),
        Some("compile") => {
            let names = question["names"].as_array().map_or(0, Vec::len);
            // What is live is compiled by the next visitor otherwise: that it is makes no
            // difference afterwards.
            let base = question["base"].as_str().unwrap_or_default();
            if !entry.canonicalize().is_ok_and(|live| live.starts_with(base)) {
                state["compiled"] = json!({"of": base, "names": names});
            }
            answer["next"] = names.into();
            answer["compiled"] = names.into();
        }
        _ => {}
    }
    answer["statistics"]["manual_restarts"] = state["resets"].clone();
    write(file, &state.to_string());
    format!("Content-type: text/html\r\n\r\n\n{mark}{answer}{mark}\n")
}

/// A Varnish server that writes down when it has forgotten all. Returns its port.
pub fn varnish(file: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.extend(byte);
            }
            if request.starts_with(b"PURGE / ") && request.ends_with(b"\r\n\r\n") {
                write(&file, "purged");
                let _ = stream.write_all(b"HTTP/1.1 200 Purged\r\nConnection: close\r\n\r\n");
            }
        }
    });
    port
}

/// Waits until Varnish has done what it was asked for before.
pub fn settle_varnish(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("Varnish");
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Whole or not at all: a disk that is full is not what is tried on these.
fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("what it knows");
    fs::rename(new, file).expect("what it knows");
}
