//! [`Secret`]: a value that cannot be printed and is wiped when dropped.

use std::fmt;

use zeroize::Zeroize;

/// A secret value: a key, token or password.
///
/// INVARIANT: no `Display`, no `Serialize`, and `Debug` prints a constant, so a secret cannot reach a log, an error, an
/// audit entry or a problem document by accident. Its memory is zeroed on drop. [`Secret::expose`] is the only way in,
/// and is easy to grep.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Reads the secret, in order to use it at its one place of use.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_a_constant() {
        assert_eq!(format!("{:?}", Secret::new(String::from("hunter2"))), "Secret(…)");
    }
}
