//! `magento_cache`: flushing, cleaning, and Varnish.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use oxistrano_harness::{Manifest, Shop, Value, exception, fails, json};

const TYPES: &str = "config\nlayout\nblock_html\nfull_page";

fn shop() -> Shop {
    let shop = Shop::new();
    for (command, word) in [("cache:flush", "Flushed"), ("cache:clean", "Cleaned")] {
        shop.answer(command, &format!("echo '{word} cache types:\n{TYPES}'"));
    }
    shop
}

/// A server that gives this answer to every request; the requests come through the channel.
fn varnish(answer: &'static str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.extend(byte);
            }
            // Before the answer: who has that looks for the request.
            let _ = sender.send(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, requests)
}

const PURGED: &str = "HTTP/1.1 200 Purged\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

fn to(servers: &[&SocketAddr]) -> Value {
    let servers: Vec<String> = servers.iter().map(|server| server.to_string()).collect();
    json!({"varnish": servers})
}

#[test]
fn everything_is_flushed_or_cleaned() {
    for (arguments, call, word) in [
        (json!({}), "cache:flush --no-ansi -n", "Flushed"),
        (json!({"state": "cleaned"}), "cache:clean --no-ansi -n", "Cleaned"),
        (
            json!({"state": "cleaned", "types": ["config", "full_page"]}),
            "cache:clean config full_page --no-ansi -n",
            "Cleaned",
        ),
        (json!({"types": "config"}), "cache:flush config --no-ansi -n", "Flushed"),
    ] {
        let shop = shop();
        let before = Manifest::exact(&shop.root.path());
        let reply = shop.run("magento_cache", arguments).changed();
        before.assert_same(&Manifest::exact(&shop.root.path()));
        assert!(shop.calls()[0].ends_with(&format!("/bin/magento {call}")), "{:?}", shop.calls());
        assert_eq!(shop.calls().len(), 1);
        assert_eq!(reply["types"], json!(["config", "layout", "block_html", "full_page"]));
        assert_eq!(reply["answer"]["rc"], 0);
        reply.says([word, "config, layout, block_html, full_page"]);
    }
}

#[test]
fn warnings_before_the_types_are_no_types() {
    let shop = shop();
    shop.answer(
        "cache:flush",
        "echo 'PHP Warning: x'; printf 'Flushed cache types:\\r\\nconfig\\r\\n'",
    );
    assert_eq!(shop.run("magento_cache", json!({})).changed()["types"], json!(["config"]));
}

#[test]
fn a_failure_says_why_and_tells_varnish_nothing() {
    let undefined = exception(None, "There are no commands defined in the \"cache\" namespace.");
    let down =
        exception(Some("AbstractPdo.php line 128"), "SQLSTATE[HY000] [2002] Connection refused");
    let unknown = "The following requested cache types are not supported: 'x'.";
    let unknown = exception(Some("AbstractCacheManageCommand.php line 62"), unknown);
    for (script, says) in [
        (
            fails(1, &undefined),
            "exit code 1: There are no commands defined in the \"cache\" namespace",
        ),
        (fails(255, &down), "exit code 255: SQLSTATE[HY000] [2002] Connection refused"),
        (
            fails(1, &unknown),
            "exit code 1: The following requested cache types are not supported: 'x'",
        ),
        ("exit 0".into(), "exit code 0 without any output"),
        ("echo 'Cleaned cache types:'".into(), "exit code 0: Cleaned cache types:"),
        ("echo 'Flushed cache types:'; exit 1".into(), "exit code 1"),
    ] {
        let shop = shop();
        let (server, requests) = varnish(PURGED);
        shop.answer("cache:flush", &script);
        let reply = shop.run("magento_cache", to(&[&server])).failed("not_flushed");
        reply.says(["`bin/magento cache:flush` failed", says, "may show old content until then"]);
        assert!(requests.try_recv().is_err(), "Varnish was asked");
    }
}

#[test]
fn a_timeout_is_a_failure() {
    let shop = shop();
    shop.answer("cache:flush", "exec sleep 300");
    let reply = shop.run("magento_cache", json!({"timeout": 1})).failed("command_failed");
    reply.says(["did not end within 1 s"]);
}

#[test]
fn check_mode_runs_nothing_and_asks_nobody() {
    let shop = shop();
    let (server, requests) = varnish(PURGED);
    let reply = shop.check("magento_cache", to(&[&server])).changed();
    assert_eq!(reply.msg(), "would run cache:flush");
    assert!(shop.calls().is_empty() && requests.try_recv().is_err());
}

#[test]
fn varnish_is_asked_as_magento_asks_it() {
    let shop = shop();
    let (one, to_one) = varnish(PURGED);
    let (two, to_two) = varnish("HTTP/1.0 200 OK\r\n\r\nPurged");
    let _ = shop.run("magento_cache", to(&[&one, &two])).changed();
    for requests in [to_one, to_two] {
        let request = requests.recv().unwrap();
        assert!(request.starts_with("PURGE / HTTP/1.1\r\nHost: 127.0.0.1"), "{request}");
        assert!(request.contains("\r\nX-Magento-Tags-Pattern: .*\r\n"), "{request}");
        assert!(requests.try_recv().is_err(), "once");
    }
}

#[test]
fn a_varnish_that_refuses_does_not_keep_the_others_from_forgetting() {
    for (answer, says) in [
        (
            "HTTP/1.1 405 Not allowed.\r\n\r\n",
            "it answered 'HTTP/1.1 405 Not allowed.'; allow this host",
        ),
        (
            "HTTP/1.1 400 X-Magento-Tags-Pattern header required\r\n\r\n",
            "check that it uses Magento's VCL",
        ),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "it answered 'HTTP/1.1 302 Found'"),
        ("220 mail.example.com ESMTP\r\n", "it answered '220 mail.example.com ESMTP'"),
        ("", "it answered ''"),
    ] {
        let shop = shop();
        let (bad, _requests) = varnish(answer);
        let (good, requests) = varnish(PURGED);
        let reply = shop.run("magento_cache", to(&[&bad, &good])).failed("varnish");
        reply.says([&format!("cannot purge Varnish at {bad}"), says, "cache:flush succeeded"]);
        assert!(requests.try_recv().is_ok(), "the other one was not asked");
    }
}

#[test]
fn a_varnish_that_is_not_there_or_says_nothing_is_named() {
    let shop = shop();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reply = shop.run("magento_cache", to(&[&address])).failed("varnish");
    reply.says([&address.to_string(), "Connection refused", "cache:flush succeeded"]);
    let reply = shop.run("magento_cache", json!({"varnish": ["no-such-host.invalid"]}));
    reply.failed("varnish").says([
        "no-such-host.invalid:80",
        "the host name 'no-such-host.invalid' cannot be resolved",
    ]);

    // It takes the connection, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let started = Instant::now();
    let reply = shop.run("magento_cache", to(&[&silent.local_addr().unwrap()])).failed("varnish");
    assert!(started.elapsed().as_secs() < 30);
    reply.says(["it did not answer within 10 s"]);
}

#[test]
fn what_is_no_server_is_refused_before_anything_is_done() {
    let shop = shop();
    for wrong in ["http://cache1:80", "cache1:port", "a b", "-x", "x:70000", "a\r\nb"] {
        let reply = shop.run("magento_cache", json!({"varnish": [wrong]}));
        reply.failed("invalid_arguments").says(["varnish"]);
    }
    assert!(shop.calls().is_empty());
}
