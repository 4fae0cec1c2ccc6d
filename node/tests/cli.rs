//! The command line, from outside: what it says, and its exit status.

mod daemon;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use daemon::{Home, Said};
use serde_json::Value;

const SECRET: &str = "correct horse battery staple";

fn config(home: &Home) -> Value {
    serde_json::from_slice(&fs::read(home.file("hypergolix.json")).expect("a config"))
        .expect("JSON")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn every_option_of_config_comes_back() {
    let home = Home::new();
    let steps: [(&[&str], &str, Value); 26] = [
        (&["--ipc-port", "7780"], "/ipc_port", 7780.into()),
        (&["-ipc", "7781"], "/ipc_port", 7781.into()),
        (&["--debug"], "/debug", true.into()),
        (&["--no-debug"], "/debug", false.into()),
        (&["--verbosity", "extreme"], "/verbosity", "extreme".into()),
        (&["-v", "shouty"], "/verbosity", "shouty".into()),
        (&["-v", "debug"], "/verbosity", "louder".into()),
        (&["-v", "info"], "/verbosity", "loud".into()),
        (&["-v", "warning"], "/verbosity", "normal".into()),
        (&["-v", "error"], "/verbosity", "quiet".into()),
        (&["--no-lan"], "/lan", false.into()),
        (&["--lan"], "/lan", true.into()),
        (&["--listen", "127.0.0.1", "::1"], "/listen/1", "::1".into()),
        (&["--listen", "ANY"], "/listen/0", Value::Null),
        (&["--dht"], "/dht", true.into()),
        (&["--no-dht"], "/dht", false.into()),
        (&["--add", "hgx"], "/remotes/0/host", "hgx.hypergolix.com".into()),
        (&["-a", "hgx"], "/remotes/1", Value::Null),
        (&["-r", "hgx"], "/remotes/0", Value::Null),
        (&["-ah", "192.168.0.1", "7770", "False"], "/remotes/0/tls", false.into()),
        (&["--addhost", "example.org", "443", "true"], "/remotes/1/port", 443.into()),
        (&["-rh", "192.168.0.1", "7770"], "/remotes/0/host", "example.org".into()),
        (&["-o", "hgx"], "/remotes/0/host", "hgx.hypergolix.com".into()),
        (&["--only", "local"], "/remotes/0", Value::Null),
        (&["--addpeer", "/ip4/10.0.0.1/tcp/4001"], "/peers/0", "/ip4/10.0.0.1/tcp/4001".into()),
        (&["--removepeer", "/ip4/10.0.0.1/tcp/4001"], "/peers/0", Value::Null),
    ];
    for (words, place, expected) in steps {
        home.config(words).expect_success();
        let found = config(&home).pointer(place).cloned().unwrap_or_default();
        assert_eq!(found, expected, "{words:?}");
        let shown = home.config(&["--show", "--json"]).expect_success();
        assert_eq!(shown.json(), config(&home), "{words:?}");
    }
    assert_eq!(mode(&home.file("hypergolix.json")), 0o600);
    assert_eq!(mode(&home.path()), 0o700);
}

#[test]
fn usage_errors_end_in_status_two() {
    let home = Home::new();
    for (words, said) in [
        (&["config", "--only", "local", "--add", "hgx"][..], "--add"),
        (&["config", "-o", "hgx", "-r", "hgx"], "--remove"),
        (&["config", "-o", "local", "-ah", "a", "1", "True"], "--addhost"),
        (&["config", "-o", "local", "-rh", "a", "1"], "--removehost"),
        (&["config", "-ah", "a", "port", "True"], "port"),
        (&["config", "-ah", "a", "0", "True"], "65535"),
        (&["config", "-ah", "a b", "1", "True"], "a b"),
        (&["config", "-ah", "a", "1", "Maybe"], "Maybe"),
        (&["config", "-ah", "example.org:7770", "7770", "False"], "example.org 7770"),
        (&["config", "-rh", "a", "99999"], "99999"),
        (&["config", "--lan", "--no-lan"], "--no-lan"),
        (&["config", "--addpeer", "nonsense"], "nonsense"),
        (&["start"], "app"),
        (&["start", "app", "--detached"], "--foreground"),
        (&["server", "quota", "pid", "xyz"], "whoami"),
        (&["server", "ban", "pid", "xyz"], "whoami"),
        (&["nonsense"], "nonsense"),
    ] {
        home.run(words, "").expect(2, &[said]);
    }
    assert!(!home.file("hypergolix.json").exists());
}

#[test]
fn help_names_every_documented_option() {
    let help = Home::new().run(&["config", "--help"], "").expect_success().text;
    for word in [
        "--only",
        "--add",
        "--remove",
        "--addhost",
        "-ah",
        "--removehost",
        "-rh",
        "--debug",
        "--no-debug",
        "--verbosity",
        "--ipc-port",
        "-ipc",
        "--whoami",
        "--register",
        "extreme",
        "shouty",
        "louder",
        "loud",
        "normal",
        "quiet",
    ] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn there_has_to_be_somebody_to_register_with() {
    let home = Home::new();
    home.config(&["--register"]).expect(1, &["no server to register with", "--addhost"]);
    home.config(&["--addhost", "127.0.0.1", "7770", "False"]).expect_success();
    home.config(&["--register", "--token", "x"]).expect(1, &["not running", "start app"]);
    home.config(&["--token", "x"]).expect(2, &["--register"]);
}

#[test]
fn nobody_is_whoami_before_there_is_an_account() {
    Home::new().config(&["--whoami"]).expect(1, &["no account", "start app"]);
}

#[test]
fn a_wrong_config_is_named_with_its_line() {
    let home = Home::new();
    home.config(&["-ipc", "7780"]).expect_success();
    for (text, said) in [
        ("{\n  \"ipc_port\": 7780,\n  oops\n}", &["line 3", "column 3", "hypergolix.json"][..]),
        ("{\n  \"ipc_prot\": 7780\n}", &["line 2", "ipc_prot"]),
        ("[]", &["line 1", "hypergolix.json"]),
        ("", &["line 1", "hypergolix.json"]),
        ("{\"instance\": {\"user_id\": \"x\", \"fingerprint\": \"y\"}}", &["line 1", "address"]),
    ] {
        fs::write(home.file("hypergolix.json"), text).expect("ours");
        home.config(&["--show"]).expect(1, said);
        home.config(&["--debug"]).expect(1, said);
        home.start(SECRET).expect_err("a wrong config").expect(1, said);
        let kept = fs::read_to_string(home.file("hypergolix.json")).expect("ours");
        assert_eq!(kept, text, "a wrong config was overwritten");
    }
}

#[test]
fn a_home_that_cannot_be_one_is_refused() {
    let home = Home::new();
    fs::remove_dir(home.path()).expect("empty");
    fs::write(home.path(), "a file").expect("ours");
    home.start(SECRET).expect_err("a file").expect(1, &["not a folder", "HYPERGOLIX_HOME"]);
    fs::remove_file(home.path()).expect("ours");

    fs::create_dir(home.path()).expect("ours");
    for open in [0o755, 0o770, 0o701] {
        chmod(&home.path(), open);
        let said = [&format!("{open:04o}")[..], "chmod 700"];
        home.start(SECRET).expect_err("an open home").expect(1, &said);
        home.config(&["--debug"]).expect(1, &said);
        home.run(&["status"], "").expect(1, &said);
    }
    chmod(&home.path(), 0o700);
    home.start(SECRET).expect("a closed home").stop();

    let links = [home.file("store.redb"), home.file("hypergolix.pid")];
    for link in links {
        let elsewhere = home.path().with_extension("elsewhere");
        fs::rename(&link, &elsewhere).expect("ours");
        std::os::unix::fs::symlink(&elsewhere, &link).expect("ours");
        home.start(SECRET).expect_err("a link").expect(1, &[&link.display().to_string()]);
        fs::rename(&elsewhere, &link).expect("ours");
    }
    chmod(&home.file("store.redb"), 0o640);
    home.start(SECRET).expect_err("an open store").expect(1, &["0640", "chmod 600"]);
    chmod(&home.file("store.redb"), 0o600);
    home.start(SECRET).expect("all is well").stop();
}

#[test]
fn a_lost_store_is_not_replaced_by_another_account() {
    let home = Home::new();
    let first = home.start(SECRET).expect("it starts");
    let user_id = first.fact("user-id").to_owned();
    first.stop();
    let (store, away) = (home.file("store.redb"), home.path().with_extension("away"));
    fs::rename(&store, &away).expect("ours");
    home.start(SECRET).expect_err("lost").expect(1, &["missing", &user_id, "backup"]);
    home.run(&["start", "app"], SECRET).expect(1, &["missing", &user_id, "account import"]);
    assert!(!store.exists());
    fs::rename(&away, &store).expect("ours");
    home.start(SECRET).expect("found again").stop();
}

#[test]
fn a_backup_takes_the_place_of_a_lost_store() {
    let home = Home::new();
    home.keep_quiet();
    home.config(&["--addhost", "127.0.0.1", "7770", "False"]).expect_success();
    let first = home.start(SECRET).expect("it starts");
    let user_id = first.fact("user-id").to_owned();
    first.stop();
    let backup = home.path().with_extension("backup").display().to_string();
    home.run(&["account", "export", &backup], "").expect_success();
    let import = || home.run(&["account", "import", &backup], "");
    import().expect(1, &["has an account already"]);
    fs::remove_file(home.file("store.redb")).expect("ours");
    // A backup of somebody else is of no use here.
    let other = Home::new();
    other.start(SECRET).expect("it starts").stop();
    let foreign = other.path().with_extension("backup").display().to_string();
    other.run(&["account", "export", &foreign], "").expect_success();
    home.run(&["account", "import", &foreign], "").expect(1, &[&user_id, "another home"]);
    import().expect(0, &["restored", &user_id]);
    assert_eq!(config(&home)["remotes"][0]["port"], 7770);
    assert_eq!(config(&home)["lan"], false);
    let again = home.start(SECRET).expect("it starts again");
    assert_eq!(again.fact("user-id"), user_id);
    again.stop();
}

#[test]
fn an_interrupted_prompt_leaves_a_terminal_that_shows_what_is_typed() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, tcgetattr};

    let home = Home::new();
    for foreground in [&[][..], &["--foreground"]] {
        for key in [&b"\x03"[..], b"half a pass\x1c", b"\x04", b"short\n"] {
            let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
            grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("ours");
            let name = ptsname(&ours, Vec::new()).expect("a name");
            let theirs = rustix::fs::open(
                name,
                rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
                rustix::fs::Mode::empty(),
            )
            .expect("the other end");
            let mut child = home
                .command(&["start", "app"])
                .args(foreground)
                .stdin(theirs.try_clone().expect("a copy"))
                .stdout(theirs.try_clone().expect("a copy"))
                .stderr(theirs.try_clone().expect("a copy"))
                .spawn()
                .expect("it runs");
            let shows =
                || tcgetattr(&theirs).expect("modes").local_modes.contains(LocalModes::ECHO);
            let deadline = Instant::now() + Duration::from_secs(10);
            while shows() {
                assert!(Instant::now() < deadline, "no prompt");
                std::thread::sleep(Duration::from_millis(2));
            }
            rustix::io::write(&ours, key).expect("typed");
            assert!(!child.wait().expect("it ends").success());
            assert!(shows(), "{key:?}");
        }
    }
    assert!(!home.file("store.redb").exists());
}

#[test]
fn everything_in_the_home_is_private_whatever_the_shell_says() {
    let home = Home::new();
    home.start(SECRET).expect("it starts").stop();
    let mut folders = vec![home.path()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in fs::read_dir(&folder).expect("ours") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files >= 5, "{files}");
}

#[test]
fn passwords() {
    let home = Home::new();
    for (password, said) in [("", "empty"), ("short", "8 characters"), ("\n", "empty")] {
        home.start(password).expect_err("no password").expect(1, &["password", said]);
    }
    let first = home.start("8letters").expect("long enough");
    assert!(first.said.contains("12 characters"), "no warning: {}", first.said);
    assert!(first.said.contains("recovery key"), "{}", first.said);
    first.stop();
    home.start("8letterz").expect_err("another").expect(1, &["wrong password"]);
    home.start(" 8letters").expect_err("another").expect(1, &["wrong password"]);
    let second = home.start("8letters").expect("the right one");
    assert!(!second.said.contains("recovery key"), "shown twice: {}", second.said);
    second.stop();
}

#[test]
fn the_recovery_key_opens_what_the_password_opens() {
    let home = Home::new();
    let with_key = |key: &str| home.start_with(&["--recovery-key"], key).map(daemon::Daemon::stop);
    let nowhere = "0000-0000-0000-0000-0000-0000-0000-0000";
    with_key(nowhere).expect_err("no account").expect(1, &["no account in this home"]);
    let first = home.start(SECRET).expect("it starts");
    let mut words = first.said.split_whitespace().skip_while(|word| *word != "recovery");
    let key = words.nth(2).expect("it is shown").to_owned();
    first.stop();
    with_key(&key).expect("the key");
    with_key(&key.replace('-', " ").to_uppercase()).expect("the key, typed");
    for wrong in [nowhere, "nonsense", SECRET] {
        with_key(wrong).expect_err("no such key").expect(1, &["wrong recovery key"]);
    }
    home.start(&key).expect_err("it is no password").expect(1, &["wrong password"]);
    home.start(SECRET).expect("the password").stop();
}

#[test]
fn accounts_that_are_not_here() {
    let home = Home::new();
    let other = golix::Ghid::of(b"somebody else").to_string();
    let with = |words: &[&str]| home.start_with(words, SECRET).expect_err("no such account");
    for suite in ["0", "2", "4", "one"] {
        with(&["--suite", suite]).expect(2, &["suites 1 and 3"]);
    }
    with(&["--user-id", "nonsense"]).expect(1, &["user id", "nonsense"]);
    with(&["--user-id", &other]).expect(1, &["no account in this home", "--addhost"]);
    let node = home.start(SECRET).expect("an account");
    let user_id = node.fact("user-id").to_owned();
    node.stop();
    with(&["--user-id", &other]).expect(1, &[&user_id]);
    with(&["--suite", "1"]).expect(1, &["is of suite 3"]);
    home.start_with(&["--user-id", &user_id], SECRET).expect("that very account").stop();
}

#[test]
fn an_account_of_suite_1() {
    let home = Home::new();
    home.keep_quiet();
    let words = ["start", "app", "--ipc-port", "0", "--suite", "1"];
    let started = home.run(&words, &format!("{SECRET}\n")).expect_success();
    started.says("making two RSA keys");
    started.says("recovery key");
    home.run(&["stop", "app"], "").expect_success();
    // Its suite is its own from now on.
    let again = home.start(SECRET).expect("that very account");
    let fingerprint = format!("fingerprint={}", again.fact("fingerprint"));
    assert!(started.out.contains(&fingerprint), "{}", started.out);
    again.stop();
    home.start_with(&["--suite", "3"], SECRET).expect_err("another").expect(1, &["is of suite 1"]);
}

#[test]
fn what_is_configured_during_a_first_start_is_kept() {
    let home = Home::new();
    home.keep_quiet();
    // It has read its configuration when it asks for the password.
    let mut child = home
        .command(&["start", "app", "--foreground", "--ipc-port", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !home.file("logs").is_dir() || !home.file("hypergolix.pid").exists() {
        assert!(Instant::now() < deadline, "it does not start");
        std::thread::sleep(Duration::from_millis(2));
    }
    home.config(&["--addhost", "127.0.0.1", "7770", "False", "-v", "quiet"]).expect_success();
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(format!("{SECRET}\n").as_bytes()).expect("it listens");
    drop(stdin);
    let mut ready = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("text");
    assert!(ready.starts_with("ready "), "{ready}");
    let kept = config(&home);
    assert_eq!((&kept["remotes"][0]["port"], &kept["verbosity"]), (&7770.into(), &"quiet".into()));
    assert!(kept["instance"]["user_id"].is_string(), "{kept}");
    let status = home.run(&["status", "--json"], "").expect_success().json();
    assert_eq!(status["remotes"][0]["remote"], "127.0.0.1 7770");
    home.run(&["stop", "app"], "").expect_success();
    child.wait().expect("it ended");
}

#[test]
fn in_the_background() {
    let home = Home::new();
    home.run(&["stop", "app"], "").expect(1, &["not running"]);
    home.run(&["status"], "").expect(1, &["not running", "start app"]);
    home.run(&["status", "--json"], "").expect(1, &["not running"]);
    home.keep_quiet();
    home.run(&["start", "app"], "short\n").expect(1, &["8 characters"]);
    home.run(&["start", "app"], "").expect(1, &["empty"]);

    let started = home.run(&["start", "app", "--ipc-port", "0"], &format!("{SECRET}\n"));
    let started = started.expect_success();
    assert!(started.out.starts_with("ready fingerprint=") && started.out.lines().count() == 1);
    for fact in ["recovery key", "user id", "fingerprint"] {
        assert!(started.text.contains(fact), "{fact}: {}", started.text);
    }
    let status = home.run(&["status", "--json"], "").expect_success().json();
    for (key, word) in [("fingerprint", "fingerprint"), ("user_id", "user-id")] {
        let said = format!("{word}={}", status[key].as_str().expect("text"));
        assert!(started.out.contains(&said), "{said}: {}", started.out);
    }
    assert!(started.out.contains(&format!("ipc-port={} ", status["ipc_port"])));
    assert!(started.out.contains(&format!("pid={}", status["pid"])));
    assert_eq!(status["home"], home.path().display().to_string());
    assert!(status["peers"].is_array() && status["storage_bytes"].as_u64() > Some(0));
    let shown = home.run(&["status"], "").expect_success().text;
    assert!(shown.contains(status["user_id"].as_str().expect("text")), "{shown}");

    let whoami = home.config(&["--whoami", "--json"]).expect_success().json();
    assert_eq!(
        (&whoami["user_id"], &whoami["fingerprint"]),
        (&status["user_id"], &status["fingerprint"])
    );
    home.config(&["--debug"]).expect_success().says("stop and start");

    let pid = status["pid"].to_string();
    home.run(&["start", "app"], "").expect(1, &["already running", &pid, "stop app"]);
    home.start(SECRET).expect_err("a second").expect(1, &["already running", &pid]);
    home.run(&["stop", "app"], "").expect_success();
    assert!(!Path::new("/proc").join(&pid).join("exe").exists(), "it still runs");
    home.run(&["stop", "app"], "").expect(1, &["not running"]);
    // What a lost config said of the account is written again.
    fs::remove_file(home.file("hypergolix.json")).expect("ours");
    assert_eq!(home.config(&["--whoami", "--json"]).expect_success().json(), whoami);
    home.keep_quiet();
    home.run(&["start", "app", "--ipc-port", "0"], &format!("{SECRET}\n")).expect_success();
    assert_eq!(config(&home)["instance"]["user_id"], whoami["user_id"]);
    home.run(&["stop", "app"], "").expect_success();
}

#[test]
fn a_port_in_use_is_named_with_its_owner() {
    let squatter = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = squatter.local_addr().expect("bound").port().to_string();
    let home = Home::new();
    let failed = home.start_with(&["--ipc-port", &port], SECRET).expect_err("in use");
    let said = [&port[..], "in use", "config --ipc-port", &std::process::id().to_string()];
    failed.expect(1, &said);
    // Nothing was created, and nothing is locked.
    home.start(SECRET).expect("another port").stop();
}

#[test]
fn a_process_that_ended_without_a_word_blocks_nobody() {
    let home = Home::new();
    home.start(SECRET).expect("it starts").kill();
    home.run(&["status"], "").expect(1, &["not running"]);
    home.run(&["stop", "app"], "").expect(1, &["not running"]);
    home.start(SECRET).expect("it starts again").stop();
}

#[test]
fn secrets_are_not_in_logs_arguments_or_the_environment() {
    let home = Home::new();
    home.config(&["-v", "extreme", "--debug"]).expect_success();
    let node = home.start(SECRET).expect("it starts");
    for name in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{name}", node.pid())).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{name}");
    }
    node.stop();
    let mut logs = 0;
    for entry in fs::read_dir(home.file("logs")).expect("logs") {
        let text = fs::read_to_string(entry.expect("readable").path()).expect("text");
        assert!(!text.contains(SECRET));
        logs += text.len();
    }
    assert!(logs > 1_000, "extreme is not extreme: {logs} bytes");
}

#[test]
fn addresses_are_published_and_taken_back() {
    let home = Home::new();
    home.run(&["publish", "--list"], "").expect(1, &["not running"]);
    for words in [&["publish"][..], &["publish", "nonsense"], &["publish", "--remove"]] {
        assert_eq!(home.run(words, "").status, Some(2), "{words:?}");
    }
    let node = home.start(SECRET).expect("it starts");
    let put = home.run(&["put"], "state").expect_success();
    let object = put.out.trim();
    home.run(&["publish", object], "").expect(1, &["switched off", "config --dht"]);
    home.run(&["publish", "--list"], "").expect(0, &["nothing is published"]);
    node.stop();
    home.config(&["--dht"]).expect_success();
    let node = home.start(SECRET).expect("it starts");
    let unknown = node.fact("fingerprint");
    home.run(&["publish", unknown], "").expect(1, &["no object", "hypergolix ls"]);
    home.run(&["publish", object], "").expect(0, &["published"]);
    home.run(&["publish", object], "").expect(0, &["already"]);
    let again = home.run(&["publish", object, "--json"], "").expect_success().json();
    assert_eq!((&again["new"], &again["address"]), (&Value::Bool(false), &object.into()));
    node.stop();
    // Over a restart, and while the DHT is off.
    home.config(&["--no-dht"]).expect_success();
    let node = home.start(SECRET).expect("it starts");
    let list = home.run(&["publish", "--list", "--json"], "").expect_success().json();
    assert_eq!(list, serde_json::json!([{ "address": object, "here": true }]));
    home.run(&["publish", "--list"], "").expect(0, &[object]);
    home.run(&["publish", object, "--remove"], "").expect(0, &["taken back"]);
    home.run(&["publish", object, "--remove"], "").expect(1, &["not published", "--list"]);
    node.stop();
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let home = Home::new();
    let said: Said = home.run_closed(&["config", "--show"]);
    said.expect_success();
}
