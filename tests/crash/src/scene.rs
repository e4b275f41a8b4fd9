//! Deploy roots in well-defined states, and the steps of a deploy.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oxistrano_harness::{Value, dir, file, hard_link, is_root, json, symlink as link, tar_gz};

use sha2::{Digest, Sha256};

use crate::programs::Programs;

/// How `current` leads to the live release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// A link.
    Symlink,
    /// A directory with a copy.
    Rsync,
}

impl Via {
    fn word(self) -> &'static str {
        match self {
            Via::Symlink => "symlink",
            Via::Rsync => "rsync",
        }
    }
}

/// How the code comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum How {
    /// An archive.
    Unpack,
    /// A tree on the host.
    Copy,
    /// A tree that somebody has put into the staging directory.
    Adopt,
    /// What differs from the release 2, which the controller has sent.
    Delta,
}

/// A deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deploy {
    /// The release.
    pub version: &'static str,
    /// What is in it.
    pub contents: &'static str,
    /// How its code comes.
    pub how: How,
    /// How it becomes live.
    pub via: Via,
    /// Replace what is there.
    pub force: bool,
    /// How many releases stay.
    pub keep: u32,
    /// Whether one that goes is kept as the spare.
    pub spare: bool,
    /// The process id of the deployer.
    pub deployer: u32,
}

impl Deploy {
    /// An archive, made live by a link, by the deployer 1.
    pub fn of(version: &'static str) -> Self {
        Self {
            version,
            contents: version,
            how: How::Unpack,
            via: Via::Symlink,
            force: false,
            keep: 5,
            spare: false,
            deployer: 1,
        }
    }
}

/// One module call.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its phase.
    pub name: &'static str,
    /// The module.
    pub module: &'static str,
    /// Its arguments.
    pub arguments: Value,
}

/// A directory with a deploy root `shop`, and things outside of it that nobody must touch.
#[derive(Debug)]
pub struct Scene {
    /// The modules.
    pub programs: Programs,
    top: PathBuf,
}

/// What releases share.
pub const SHARED_PATHS: [&str; 2] = ["var", "pub/media"];
/// And the file.
pub const SHARED_FILE: &str = "app/etc/env.php";

impl Scene {
    /// An empty one below `top`, which is made.
    pub fn new(modules: &Path, top: &Path) -> Self {
        fs::create_dir_all(top.join("outside/dir")).expect("a scene");
        fs::write(top.join("outside/victim"), "untouched").expect("a scene");
        fs::write(top.join("outside/dir/victim"), "untouched").expect("a scene");
        let programs = Programs::new(modules, &top.join("run"));
        Self { programs, top: top.to_owned() }
    }

    /// The deploy root.
    pub fn root(&self) -> PathBuf {
        self.top.join("shop")
    }

    /// What nobody must touch.
    pub fn outside(&self) -> PathBuf {
        self.top.join("outside")
    }

    /// Everything of this scene.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// An archive of an application of these contents, made once.
    pub fn archive(&self, contents: &str) -> PathBuf {
        let path = self.top.join(format!("{contents}.tar.gz"));
        if !path.exists() {
            let large = contents.repeat(150_000);
            let entries = [
                file("index.php", contents),
                dir("app"),
                dir("app/etc"),
                file("app/etc/config.php", contents),
                file("bin/magento", contents).mode(0o755),
                dir("pub"),
                file("pub/index.php", contents),
                file("pub/large.js", large),
                dir("pub/media"),
                file("pub/media/.gitkeep", "of the artifact"),
                dir("var"),
                file("var/.htaccess", "of the artifact"),
                link("latest", "pub/index.php"),
                hard_link("again.php", "index.php"),
                file(&format!("only-in-{contents}"), contents),
                file("zz-last", contents),
            ];
            fs::write(&path, tar_gz(&entries)).expect("an archive");
        }
        path
    }

    /// A tree of these contents, made once.
    fn tree(&self, contents: &str) -> PathBuf {
        let path = self.top.join(format!("{contents}.tree"));
        if !path.exists() {
            for (name, text) in [
                ("index.php", contents.to_owned()),
                ("app/etc/config.php", contents.to_owned()),
                ("pub/index.php", contents.to_owned()),
                ("pub/large.js", contents.repeat(150_000)),
                ("pub/media/.gitkeep", "of the tree".to_owned()),
                ("zz-last", contents.to_owned()),
            ] {
                let file = path.join(name);
                fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
                fs::write(file, text).expect("a file");
            }
            symlink("pub/index.php", path.join("latest")).expect("a link");
        }
        path
    }

    /// The arguments that every module has.
    pub fn basic(&self, deployer: u32) -> Value {
        json!({
            "deploy_to": self.root().to_str(),
            "deployer": {
                "host": "ci", "user": "alice", "pid": deployer, "started": deployer,
                "boot_id": "b", "pid_namespace": "p",
            },
        })
    }

    /// The steps of a deploy.
    pub fn steps(&self, deploy: &Deploy) -> Vec<Step> {
        let with = |more: Value| {
            let mut arguments = self.basic(deploy.deployer);
            for (key, value) in more.as_object().into_iter().flatten() {
                arguments[key] = value.clone();
            }
            arguments
        };
        let shared = json!({
            "version": deploy.version, "shared_paths": SHARED_PATHS, "shared_files": [SHARED_FILE],
        });
        let via = |mut arguments: Value| {
            arguments["current_via"] = deploy.via.word().into();
            arguments
        };
        let mut setup = with(shared.clone());
        setup["staging"] = (deploy.how == How::Adopt).into();
        let mut code = with(shared.clone());
        code["force"] = deploy.force.into();
        let module = match deploy.how {
            How::Unpack => {
                code["src"] = self.archive(deploy.contents).to_str().into();
                code["remote_src"] = true.into();
                if is_root() {
                    code["owner"] = "33".into();
                    code["group"] = "33".into();
                }
                "release_unpack"
            }
            How::Delta => {
                code["src"] = "/on/the/controller.tar.gz".into();
                code["artifact"] = self.bundle(deploy.contents).1;
                if is_root() {
                    code["owner"] = "33".into();
                    code["group"] = "33".into();
                }
                "release_unpack"
            }
            How::Copy => {
                code["src"] = self.tree(deploy.contents).to_str().into();
                "release_copy"
            }
            How::Adopt => "release_copy",
        };
        let mut prune = json!({"keep": deploy.keep, "wait": true});
        if deploy.spare {
            prune["spare"] = true.into();
        }
        let ending = |state| with(json!({"version": deploy.version, "state": state}));
        let step = |name, module, arguments| Step { name, module, arguments };
        vec![
            step("setup", "release_setup", setup),
            step("code", module, code),
            step("link", "release_link", via(with(shared.clone()))),
            step("activate", "release_activate", via(with(shared))),
            step("prune", "release_prune", with(prune)),
            step("finish", "release_setup", ending("finished")),
            step("fail", "release_setup", ending("failed")),
            step("rollback", "release_rollback", with(json!({"reason": "500s"}))),
        ]
    }

    /// One of them.
    pub fn step(&self, deploy: &Deploy, name: &str) -> Step {
        let mut steps = self.steps(deploy).into_iter();
        steps.find(|step| step.name == name).unwrap_or_else(|| panic!("no step {name}"))
    }

    /// What somebody fetches into the staging directory.
    pub fn fetch(&self, deploy: &Deploy) {
        let staging = self.root().join("releases/.oxistrano-staging");
        let from = self.tree(deploy.contents);
        run("cp", &["-a", &format!("{}/.", path(&from)), &path(&staging)]);
    }

    /// The file that is sent of an archive, and what the module is told of it. Made once.
    fn bundle(&self, contents: &str) -> (Vec<u8>, Value) {
        let at = |name: &str| self.top.join(format!("{contents}.{name}"));
        let told = at("told");
        if !told.exists() {
            let archive = self.archive(contents);
            let base = at("base");
            self.programs
                .must("archive_manifest", &json!({"src": self.archive("2"), "dest": base}));
            // What shared paths have taken the place of in the release 2: the host would ask for it.
            let arguments = json!({
                "src": archive, "dest": at("new"), "contents": at("contents"), "base": base,
                "wanted": "9,11",
            });
            self.programs.must("archive_manifest", &arguments);
            let read = |name: &str| fs::read(at(name)).expect("a part of a bundle");
            let bundle = [read("contents.message"), read("contents"), vec![0; 1024]].concat();
            let whole = self.programs.must("archive_manifest", &json!({"src": archive}));
            let size = fs::metadata(&archive).expect("the archive").len();
            let digits = |bytes: &[u8]| -> String {
                Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
            };
            let artifact = json!({
                "size": size, "sha256": digits(&fs::read(&archive).expect("the archive")),
                "delta": {
                    "digest": whole["digest"],
                    "bundles": [{"size": bundle.len(), "sha256": digits(&bundle)}],
                },
            });
            fs::write(at("bundle"), bundle).expect("a bundle");
            fs::write(&told, artifact.to_string()).expect("what is told");
        }
        let told = fs::read(&told).expect("what is told");
        let told = serde_json::from_slice(&told).expect("JSON");
        (fs::read(at("bundle")).expect("a bundle"), told)
    }

    /// What has come before the module runs: all of a bundle.
    fn send(&self, deploy: &Deploy) {
        let (bundle, told) = self.bundle(deploy.contents);
        let place = self.root().join(".oxistrano/artifacts");
        let private = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
        };
        fs::create_dir_all(&place).expect("a directory");
        private(&place, 0o700);
        let name = told["delta"]["bundles"][0]["sha256"].as_str().expect("a name");
        fs::write(place.join(name), bundle).expect("a bundle");
        private(&place.join(name), 0o600);
    }

    /// What a step needs that is no module's work.
    fn bring(&self, deploy: &Deploy, step: &Step) {
        match (step.name, deploy.how) {
            ("setup", How::Adopt) => self.fetch(deploy),
            ("setup", How::Delta) => self.send(deploy),
            _ => {}
        }
    }

    /// Runs the steps of a deploy up to this one, without it.
    pub fn up_to(&self, deploy: &Deploy, name: &str) {
        for step in self.steps(deploy) {
            if step.name == name {
                return;
            }
            self.programs.must(step.module, &step.arguments);
            self.bring(deploy, &step);
        }
    }

    /// Runs a whole deploy, as the role does. The lock of a deploy that has died is taken
    /// over. `Err` says which step failed and how.
    pub fn deploy(&self, deploy: &Deploy) -> Result<(), String> {
        for mut step in self.steps(deploy) {
            if step.name == "setup" {
                step.arguments["take_over"] = self.lock()["since"].clone();
            }
            let said = self.programs.run(step.module, &step.arguments, &[]);
            if !said.is_well() {
                return Err(format!("{}: {}", step.name, said.message()));
            }
            self.bring(deploy, &step);
            if step.name == "finish" {
                break;
            }
        }
        Ok(())
    }

    /// The lock; null if nobody holds it.
    pub fn lock(&self) -> Value {
        let text = fs::read(self.root().join(".oxistrano/lock.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Puts a copy of a deploy root in its place.
    pub fn restore(&self, template: Option<&Path>) {
        run("rm", &["-rf", &path(&self.root())]);
        if let Some(template) = template {
            run("cp", &["-a", &path(template), &path(&self.root())]);
            self.name_indexes(&self.root(), |name, inode| (name.to_owned(), inode));
        }
    }

    /// Gives the indexes of the releases of a deploy root other names: by release and inode, the ones that
    /// they have and the ones that they get.
    fn name_indexes(&self, to: &Path, names_of: impl Fn(&str, String) -> (String, String)) {
        let state = to.join(".oxistrano");
        let user = fs::symlink_metadata(&state).map_or(0, |state| state.uid());
        let index = state.join(format!("index-{user}"));
        for name in names(&self.root().join("releases")) {
            let release = self.root().join("releases").join(&name);
            let inode = fs::symlink_metadata(&release).expect("a release").ino().to_string();
            let (from, to) = names_of(&name, inode);
            // A release that was copied has none.
            let _ = fs::rename(index.join(from), index.join(to));
        }
    }

    /// Makes a copy of a release the spare; one that was made in this way.
    pub fn make_spare(&self, version: &str, how: How) {
        let releases = self.root().join("releases");
        let spare = releases.join(".oxistrano-spare");
        let release = match how {
            How::Copy => self.tree(version),
            How::Unpack | How::Delta | How::Adopt => releases.join(version),
        };
        run("cp", &["-a", &path(&release), &path(&spare)]);
    }

    /// Keeps a copy of the deploy root.
    pub fn keep_as(&self, name: &str) -> PathBuf {
        self.settle();
        let template = self.top.join(name);
        run("cp", &["-a", &path(&self.root()), &path(&template)]);
        // A copy has other inodes.
        self.name_indexes(&template, |name, inode| (inode, name.to_owned()));
        template
    }

    /// Waits until processes that remove old releases have ended.
    pub fn settle(&self) {
        let started = Instant::now();
        // They have the lowest priority: beside other tests they take their time.
        while started.elapsed() < Duration::from_secs(60) {
            let names = names(&self.root().join("releases"));
            // What is left by a process that was killed stays until the next deploy.
            if !names.iter().any(|name| name.starts_with(".oxistrano-trash-")) {
                return;
            }
            // One that begins during a look is not seen by it, where its number is one that the look has passed.
            if !self.is_used() && !self.is_used() {
                // Nor is one that waits for a processor between fork and exec.
                sleep(Duration::from_millis(20));
                if !self.is_used() {
                    return;
                }
            }
            sleep(Duration::from_millis(2));
        }
    }

    /// Whether a process has anything here as its input, as one that removes does, or among its
    /// arguments, as one does that is about to become one.
    fn is_used(&self) -> bool {
        let top = path(&self.top);
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes.filter(|entry| entry.file_name().as_bytes()[0].is_ascii_digit()).any(|entry| {
            let process = entry.path();
            let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&arguments).contains(&top)
                || fs::read_link(process.join("fd/0")).is_ok_and(|input| input.starts_with(&top))
        })
    }
}

/// The names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn path(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().expect(program);
    assert!(status.success(), "{program} {arguments:?}");
}
