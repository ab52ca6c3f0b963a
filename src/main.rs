//! The `evenly` program: arguments to settings to run; error to exit code.
fn main() {}
