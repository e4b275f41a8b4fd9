//! The client against listeners that behave, and against others.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use oxistrano_fastcgi::{Address, NO_ANSWER, Request, TIMEOUT, UNREACHABLE, ask, peers};
use tempfile::TempDir;

const SECOND: Duration = Duration::from_secs(1);
const END: [u8; 16] = [1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn stdout(content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    [&[1, 6, 0, 1, high, low, 0, 0], content].concat()
}

type Answer = Option<fn(&mut UnixStream)>;

/// A listener that does `answer` with one connection, or with none.
fn server(answer: Answer) -> (TempDir, Address) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || match answer {
        Some(answer) => answer(&mut listener.accept().unwrap().0),
        None => thread::sleep(Duration::from_secs(60)),
    });
    (scratch, Address::Unix(path))
}

/// Up to the empty record that ends the request.
fn read_request(stream: &mut UnixStream) -> usize {
    let mut total = 0;
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).unwrap();
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let mut content = vec![0; length + usize::from(header[6])];
        stream.read_exact(&mut content).unwrap();
        total += length;
        if header[1] == 5 && length == 0 {
            return total;
        }
    }
}

#[test]
fn an_answer_in_single_bytes_is_read() {
    let (_scratch, address) = server(Some(|stream| {
        read_request(stream);
        for byte in [stdout(b"X: y\r\n\r\nhello"), END.to_vec()].concat() {
            stream.write_all(&[byte]).unwrap();
        }
    }));
    let response = ask(&address, &Request::new().param("A", "b"), 10 * SECOND).unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, &b"hello"[..]));
}

#[test]
fn both_sides_may_talk_at_once() {
    let (_scratch, address) = server(Some(|stream| {
        // More than any buffer holds, before anything is read.
        let part = stdout(&[b'x'; 60_000]);
        stream.write_all(&stdout(b"\n")).unwrap();
        for _ in 0..100 {
            stream.write_all(&part).unwrap();
        }
        let length = read_request(stream);
        stream.write_all(&stdout(length.to_string().as_bytes())).unwrap();
        stream.write_all(&END).unwrap();
    }));
    let request = Request::new().body("text/plain", vec![b'y'; 5_000_000]);
    let response = ask(&address, &request, 30 * SECOND).unwrap();
    assert!(response.body.len() > 6_000_000);
}

#[test]
fn an_early_answer_is_read_although_the_request_was_not() {
    let (_scratch, address) = server(Some(|stream| {
        stream.write_all(&stdout(b"Status: 413\r\n\r\n")).unwrap();
        stream.write_all(&END).unwrap();
        stream.shutdown(std::net::Shutdown::Read).unwrap();
        thread::sleep(SECOND);
    }));
    let request = Request::new().body("text/plain", vec![b'y'; 5_000_000]);
    assert_eq!(ask(&address, &request, 10 * SECOND).unwrap().status, 413);
}

#[test]
fn what_goes_wrong_is_told_apart() {
    let failure = |answer: Answer| {
        let (_scratch, address) = server(answer);
        let request = Request::new().limit(1000);
        ask(&address, &request, SECOND).unwrap_err()
    };
    let cases: [(Answer, &str, &str); 7] = [
        (Some(|_| ()), NO_ANSWER, "closed before the answer was complete"),
        (
            Some(|s| s.write_all(b"HTTP/1.1 400 Bad\r\n").unwrap()),
            NO_ANSWER,
            "does not speak FastCGI",
        ),
        (Some(|s| s.write_all(&stdout(&[b'x'; 2000])).unwrap()), NO_ANSWER, "more than 1000 bytes"),
        (Some(|s| s.write_all(&END).unwrap()), NO_ANSWER, "its answer is empty"),
        (
            Some(|s| {
                let mut end = END;
                end[12] = 2;
                s.write_all(&end).unwrap();
            }),
            NO_ANSWER,
            "overloaded",
        ),
        (
            Some(|s| {
                s.write_all(&stdout(b"X: y")).unwrap();
                thread::sleep(5 * SECOND);
            }),
            TIMEOUT,
            "was not complete within 1 s",
        ),
        (None, TIMEOUT, "no worker of the pool answered within 1 s"),
    ];
    for (answer, code, text) in cases {
        let failure = failure(answer);
        assert_eq!(failure.code(), code, "{failure}");
        assert!(failure.to_string().contains(text), "{failure}");
    }
}

#[test]
fn a_full_queue_is_waited_for_and_not_for_ever() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    // Linux lets a limited number wait; further ones get EAGAIN.
    let mut waiting = Vec::new();
    let socket = || {
        let flags = rustix::net::SocketFlags::NONBLOCK;
        let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
        rustix::net::socket_with(family, kind, flags, None).unwrap()
    };
    let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
    for _ in 0..100_000 {
        let one = socket();
        if rustix::net::connect(&one, &address).is_err() {
            break;
        }
        waiting.push(one);
    }
    let started = Instant::now();
    let failure = ask(&Address::Unix(path), &Request::new(), SECOND).unwrap_err();
    assert_eq!(failure.code(), TIMEOUT, "{failure}");
    assert!(started.elapsed() < 5 * SECOND);
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let scratch = tempfile::tempdir().unwrap();
    let address = Address::Unix(scratch.path().join("none"));
    let failure = ask(&address, &Request::new(), SECOND).unwrap_err();
    assert_eq!(failure.code(), UNREACHABLE);
    assert!(failure.to_string().contains("none': No such file or directory; check"), "{failure}");
    // A port that was just free.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = Address::new(&format!("localhost:{port}")).unwrap();
    let failure = ask(&address, &Request::new(), SECOND).unwrap_err();
    assert!(failure.to_string().contains("Connection refused"), "{failure}");
}

#[test]
fn a_port_is_asked_and_its_holder_known() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::new(&listener.local_addr().unwrap().port().to_string()).unwrap();
    assert_eq!(peers(&address, SECOND).unwrap(), [std::process::id()]);
    thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.write_all(&[stdout(b"\n"), END.to_vec()].concat()).unwrap();
    });
    assert_eq!(ask(&address, &Request::new(), 10 * SECOND).unwrap().status, 200);
}

#[test]
fn the_maker_of_a_socket_is_known() {
    let (_scratch, address) = server(None);
    assert_eq!(peers(&address, SECOND).unwrap(), [std::process::id()]);
}
