//! Compiling the harness's C files, when a test first needs them. Nothing here knows what they do.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The flags of a library that is made to be preloaded.
const FLAGS: [&str; 7] = ["-Wall", "-Wextra", "-Werror", "-O2", "-g", "-fPIC", "-shared"];

/// Numbers the drafts of this process, so that its threads do not write to the same file.
static DRAFTS: AtomicU32 = AtomicU32::new(0);

/// The shared library made of `source`. The file's name contains a hash of the source and the
/// flags, so it is compiled once per version; and it appears under that name only when it is
/// complete, so test processes may race for it.
///
/// # Panics
/// When there is no compiler or it rejects the source.
pub(crate) fn shared_library(name: &str, source: &str) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (source, FLAGS).hash(&mut hasher);
    let library = directory().join(format!("{name}-{:016x}.so", hasher.finish()));
    if library.exists() {
        return library;
    }

    let draft = library.with_extension(format!(
        "{}-{}.draft",
        process::id(),
        DRAFTS.fetch_add(1, Ordering::Relaxed)
    ));
    let mut compiler = Command::new("cc")
        .args(FLAGS)
        .args(["-x", "c", "-", "-o"])
        .arg(&draft)
        .args(["-ldl", "-lpthread"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot run `cc` ({error}): install the Debian packages gcc and libc6-dev")
        });
    let written = compiler.stdin.take().expect("stdin is a pipe").write_all(source.as_bytes());
    let status = compiler.wait().expect("cc was started");
    assert!(written.is_ok() && status.success(), "cc could not compile {name}.c: {status}");
    fs::rename(&draft, &library).expect("the directory is ours");
    library
}

/// A directory in cargo's target directory: beside `deps` or `examples`, whichever this program was
/// started from.
fn directory() -> PathBuf {
    let program = env::current_exe().expect("the program knows where it is");
    let profile = program.parent().and_then(|kind| kind.parent()).expect("target/<profile>/<kind>");
    let directory = profile.join("harness");
    fs::create_dir_all(&directory).expect("cargo's target directory is writable");
    directory
}
