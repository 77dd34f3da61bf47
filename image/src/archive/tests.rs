use super::*;

fn source(uri: &str, suites: &[&str]) -> Source {
    Source {
        uri: uri.into(),
        suites: suites.iter().map(|suite| suite.to_string()).collect(),
        components: vec!["main".into()],
    }
}

#[test]
fn both_styles_of_source_are_understood() {
    let line =
        "# deb http://no/ x main\ndeb [arch=amd64 signed-by=/k.gpg] http://a/debian one main\n";
    let paragraphs = "Types: deb\n# why\nURIs: http://a/debian\nSuites: one\nComponents: main\n\n\
                      Types: deb\nEnabled: no\nURIs: http://b/\nSuites: two\nComponents: main\n\n\
                      Types: deb-src\nURIs: http://c/\nSuites: two\nComponents: main\n";
    let expected = vec![source("http://a/debian", &["one"])];
    assert_eq!(one_line(line), expected);
    assert_eq!(deb822(paragraphs), expected);
}

#[test]
fn the_wanted_release_wins_over_the_machines_own() {
    let sources = [
        source("http://security/", &["own-security"]),
        source("http://own/", &["own", "own-updates"]),
        source("http://wanted/", &[SUITE]),
    ];
    assert_eq!(choose(&sources, "own").as_deref(), Some("http://wanted/"));
    assert_eq!(choose(&sources[..2], "own").as_deref(), Some("http://own/"));
    assert_eq!(choose(&sources[..1], "own"), None);
}
