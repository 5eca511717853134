//! Tests of the token file.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn holder(name: &str) -> Holder {
    Holder { name: name.to_owned(), role: Role::User, class: None, lifetime: None }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    (folder, path)
}

#[test]
fn a_new_token_is_known_and_its_file_does_not_hold_it() {
    let (_folder, path) = folder();
    let (record, token) = create(&path, holder("ada")).unwrap();
    let digits = token.strip_prefix("gt_").unwrap();
    assert_eq!((digits.len(), record.id.len()), (64, 16));
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains(digits) && text.contains(&record.id));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let tokens = Tokens::open(&path).unwrap();
    assert_eq!(tokens.find(&token).unwrap().to_string(), "token:ada");
    for wrong in ["", "gt_", digits, &token[1..], &token.to_uppercase(), &format!("{token}0")] {
        assert!(tokens.find(wrong).is_none(), "{wrong:?}");
    }
}

/// SHA-256 of the text "abc": FIPS 180-2, appendix B.1.
#[test]
fn the_digest_is_sha_256() {
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(ids::hex(&digest_of("abc")), expected);
}

/// A token is looked up by the first bytes of its digest, and the whole digests are compared, by `subtle` always to their
/// ends. How long it takes to find the first bytes says nothing of the token, since nobody can choose a digest.
#[test]
fn a_token_is_compared_by_the_whole_of_its_digest() {
    let (_folder, path) = folder();
    let (record, token) = create(&path, holder("ada")).unwrap();
    let digest = digest_of(&token);
    assert_eq!(record.sha256, ids::hex(&digest), "only the digest is kept");
    for byte in size_of::<Id>()..digest.len() {
        let mut other = digest;
        other[byte] ^= 1;
        let text = fs::read_to_string(&path).unwrap();
        let forged = path.with_extension("forged");
        fs::write(&forged, text.replace(&record.sha256, &ids::hex(&other))).unwrap();
        let tokens = Tokens::open(&forged).unwrap();
        assert!(tokens.find(&token).is_none(), "byte {byte} does not count");
    }
    assert!(Tokens::open(&path).unwrap().find(&token).is_some());
}

#[test]
fn tokens_follow_the_file() {
    let (_folder, path) = folder();
    let (_, ada) = create(&path, holder("ada")).unwrap();
    let (ben_record, ben) = create(&path, holder("ben")).unwrap();
    let tokens = Tokens::open(&path).unwrap();
    let held = (tokens.find(&ada).unwrap(), tokens.find(&ben).unwrap());
    assert!(!tokens.reload().unwrap(), "nothing changed");
    let removed = revoke(&path, "ada").unwrap();
    assert_eq!(removed.len(), 1);
    assert!(tokens.reload().unwrap());
    assert!(tokens.find(&ada).is_none());
    assert!(!held.0.is_valid(), "an open stream of ada's goes on");
    assert!(held.1.is_valid(), "ben's streams must not end with ada's");
    revoke(&path, &ben_record.id).unwrap();
    tokens.reload().unwrap();
    assert!(!held.1.is_valid());
    assert!(matches!(revoke(&path, "ada"), Err(Error::Unknown(_))));
}

#[test]
fn a_broken_file_changes_nothing() {
    let (_folder, path) = folder();
    let (_, token) = create(&path, holder("ada")).unwrap();
    let tokens = Tokens::open(&path).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let broken = [
        String::new(),
        "{".to_owned(),
        good.replace("\"version\": 1", "\"version\": 2"),
        good.replace("\"name\": \"ada\"", "\"name\": \"a da\""),
        good.replace("\"role\": \"user\"", "\"role\": \"king\""),
        good.replace("\"sha256\": \"", "\"sha256\": \"0"),
        good.replace("\"sha256\"", "\"md5\""),
    ];
    for text in broken {
        assert_ne!(text, good);
        fs::write(&path, &text).unwrap();
        assert!(tokens.reload().is_err(), "{text}");
        assert!(tokens.find(&token).is_some());
    }
    fs::remove_file(&path).unwrap();
    assert!(tokens.reload().is_err());
    assert!(tokens.find(&token).is_some());
    assert!(Tokens::open(&path).is_err(), "a file that is not there is no empty file");
}

#[test]
fn an_expired_token_is_unknown() {
    let (_folder, path) = folder();
    let over = Holder { lifetime: Some(Duration::ZERO), ..holder("ada") };
    let (_, token) = create(&path, over).unwrap();
    assert!(Tokens::open(&path).unwrap().find(&token).is_none());
}

#[test]
fn names_are_plain() {
    let (_folder, path) = folder();
    for name in ["", "a b", "a/b", "ä", "a\n", &"a".repeat(65)] {
        assert!(matches!(create(&path, holder(name)), Err(Error::Name(_))), "{name:?}");
    }
    for name in ["a", "Ada.Lovelace@example.org", &"a".repeat(64)] {
        create(&path, holder(name)).unwrap();
    }
    let classed = Holder { class: Some("7 a".to_owned()), ..holder("ada") };
    assert!(matches!(create(&path, classed), Err(Error::Name(_))));
}

#[test]
fn tokens_made_at_once_are_all_kept() {
    let (_folder, path) = folder();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let path = &path;
            scope.spawn(move || create(path, holder(&format!("user-{i}"))).unwrap());
        }
    });
    let mut names: Vec<_> = read(&path).unwrap().into_iter().map(|record| record.name).collect();
    names.sort();
    assert_eq!(names, (0..8).map(|i| format!("user-{i}")).collect::<Vec<_>>());
}
