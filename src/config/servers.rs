//! The forms in which bootstrap servers can be given.

/// What [`Config::new`](crate::Config::new) takes as bootstrap servers: arrays, vectors and slices of strings, or
/// one string with commas, `"a:9092,b:9092"`.
///
/// Sealed: it is implemented here and nowhere else.
pub trait IntoBootstrapServers: sealed::Sealed {
    #[doc(hidden)]
    fn into_bootstrap_servers(self) -> Vec<String>;
}

impl IntoBootstrapServers for &str {
    fn into_bootstrap_servers(self) -> Vec<String> {
        split([self])
    }
}

impl IntoBootstrapServers for String {
    fn into_bootstrap_servers(self) -> Vec<String> {
        split([self])
    }
}

impl IntoBootstrapServers for &String {
    fn into_bootstrap_servers(self) -> Vec<String> {
        split([self])
    }
}

impl<S: AsRef<str>, const N: usize> IntoBootstrapServers for [S; N] {
    fn into_bootstrap_servers(self) -> Vec<String> {
        split(self)
    }
}

impl<S: AsRef<str>> IntoBootstrapServers for Vec<S> {
    fn into_bootstrap_servers(self) -> Vec<String> {
        split(self)
    }
}

impl<S: AsRef<str>> IntoBootstrapServers for &[S] {
    fn into_bootstrap_servers(self) -> Vec<String> {
        split(self)
    }
}

impl<S: AsRef<str>> IntoBootstrapServers for &Vec<S> {
    fn into_bootstrap_servers(self) -> Vec<String> {
        split(self)
    }
}

/// An empty text is no server; an empty piece between commas is kept, so that `build` can name it.
fn split<S: AsRef<str>>(servers: impl IntoIterator<Item = S>) -> Vec<String> {
    let mut all = Vec::new();
    for server in servers {
        let server = server.as_ref().trim();
        if !server.is_empty() {
            all.extend(server.split(',').map(|piece| piece.trim().to_owned()));
        }
    }
    all
}

mod sealed {
    #[expect(unnameable_types, reason = "that is what seals `IntoBootstrapServers`")]
    pub trait Sealed {}

    impl Sealed for &str {}
    impl Sealed for String {}
    impl Sealed for &String {}
    impl<S: AsRef<str>, const N: usize> Sealed for [S; N] {}
    impl<S: AsRef<str>> Sealed for Vec<S> {}
    impl<S: AsRef<str>> Sealed for &[S] {}
    impl<S: AsRef<str>> Sealed for &Vec<S> {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_gives_the_same_list() {
        let expected = ["a:9092", "b:9092"].map(String::from).to_vec();
        let owned = expected.clone();
        assert_eq!("a:9092, b:9092".into_bootstrap_servers(), expected);
        assert_eq!(String::from("a:9092,b:9092").into_bootstrap_servers(), expected);
        assert_eq!(["a:9092", "b:9092"].into_bootstrap_servers(), expected);
        assert_eq!(["a:9092,b:9092"].into_bootstrap_servers(), expected);
        assert_eq!((&owned).into_bootstrap_servers(), expected);
        assert_eq!(owned.as_slice().into_bootstrap_servers(), expected);
        assert_eq!(owned.into_bootstrap_servers(), expected);
    }

    #[test]
    fn an_empty_text_is_no_server_and_a_hole_between_commas_is_kept() {
        assert!("  ".into_bootstrap_servers().is_empty());
        assert_eq!("a:1,,b:1".into_bootstrap_servers(), ["a:1", "", "b:1"]);
    }
}
