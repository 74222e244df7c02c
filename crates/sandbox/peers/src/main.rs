//! Launches `/bin/true` in birdcage once for each line on standard input, and answers with the microseconds that it took,
//! from the request to its end seen. The sandbox's bench takes turns with it.

use std::io::{BufRead, Write};
use std::time::Instant;

use birdcage::process::{Command, Stdio};
use birdcage::{Birdcage, Exception, Sandbox};

fn launch() -> Result<u128, Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let mut sandbox = Birdcage::new();
    // What Sigil's profile `native` shows of the system.
    for path in ["/usr/lib", "/usr/lib64", "/lib", "/lib64"].into_iter().filter(|path| std::path::Path::new(path).exists()) {
        sandbox.add_exception(Exception::ExecuteAndRead(path.into()))?;
    }
    sandbox.add_exception(Exception::ExecuteAndRead("/bin/true".into()))?;
    sandbox.add_exception(Exception::Read("/etc/ld.so.cache".into()))?;
    let mut command = Command::new("/bin/true");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = sandbox.spawn(command)?;
    if !child.wait()?.success() {
        return Err("it failed".into());
    }
    Ok(begun.elapsed().as_micros())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("{}", launch()?);
        std::io::stdout().flush()?;
    }
    Ok(())
}
