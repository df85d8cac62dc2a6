//! Tells the linker where the functions of the program belong that an agent uses which has nothing to do: together,
//! at its beginning (`dist/order.ld`). The kernel maps a file's pages by sixteen around the one that is needed, so the
//! others would be in memory with them.
//!
//! Only in a release build: the order has no effect on what the program does.

use std::env;
use std::path::Path;

const ORDER: &str = "dist/order.ld";

fn main() {
    println!("cargo::rerun-if-changed={ORDER}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it == value);
    let Ok(root) = env::var("CARGO_MANIFEST_DIR") else { return };
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        println!("cargo::rustc-link-arg-bins=-T");
        println!("cargo::rustc-link-arg-bins={}", Path::new(&root).join(ORDER).display());
    }
}
