//! Memory that starting needed and living does not.

use std::fs;
use std::io;
use std::path::Path;

/// Gives memory back to the kernel: free pages of the heap, and the pages of this program's own code, most of which only the
/// start has used. What is used again comes back from the page cache, without a read from the disk as long as it is there.
///
/// # Errors
/// Those of reading `/proc/self/maps`; nothing else was done then.
pub fn give_back() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for (start, length) in maps.lines().filter_map(|line| code_of(line, &program)) {
        let at = std::ptr::with_exposed_provenance_mut::<libc::c_void>(start);
        // SAFETY: the kernel has just named this as a private mapping of this program's file that cannot be written. Nothing in
        // this process writes its code by other means, and it has no text relocations, so each page is the file's own and
        // comes back as it is when it is touched again (madvise(2), MADV_DONTNEED).
        unsafe { libc::madvise(at, length, libc::MADV_DONTNEED) };
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number only; it locks the allocator itself (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0)
    };
    Ok(())
}

/// Where a line of `/proc/self/maps` (proc_pid_maps(5)) says that code of `program` is mapped: address and length.
fn code_of(line: &str, program: &Path) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
    let file = rest.splitn(4, ' ').nth(3)?.trim_start();
    if permissions != "r-xp" || Path::new(file) != program {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unwritable_code_of_the_program_is_named() {
        let program = Path::new("/opt/a b/sigil");
        let line = "5581d0000000-5581d15ad000 r-xp 00250000 fe:00 1234                       /opt/a b/sigil";
        assert_eq!(code_of(line, program), Some((0x5581_d000_0000, 0x15a_d000)));
        for other in [
            "5581d15ad000-5581d165e000 r--p 017fc000 fe:00 1234                       /opt/a b/sigil",
            "5581d15ad000-5581d165e000 rw-p 017fc000 fe:00 1234                       /opt/a b/sigil",
            "7f0000000000-7f0000010000 r-xp 00000000 fe:00 99                         /usr/lib/libc.so.6",
            "7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]",
            "7f0000000000-7f0000010000 r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(code_of(other, program), None, "{other}");
        }
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        let kept: Vec<u64> = (0..100_000).collect();
        give_back().expect("given back");
        assert_eq!(kept.iter().sum::<u64>(), 4_999_950_000);
    }
}
