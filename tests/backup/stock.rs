//! Both ways with the tools of every distribution: openssl(1) and gzip(1).

use std::fs;
use std::sync::Arc;

use super::memory::Memory;
use super::support::{encoded, restored, store};
use super::tools::{directory, dump, gunzip, gzip, openssl, password};

fn contents() -> [Vec<u8>; 4] {
    let mut noise = vec![0; 700_000];
    openssl::rand::rand_bytes(&mut noise).unwrap();
    [Vec::new(), b"one line\n".to_vec(), dump(2_000_000), [dump(300_000), noise, dump(300_000)].concat()]
}

/// `openssl enc -d -aes-256-cbc | gzip -d`, with no option besides the password.
#[tokio::test]
async fn what_is_written_here_is_read_there() {
    for content in contents() {
        let (_guard, directory) = directory();
        let (sealed, packed) = (directory.join("backup"), directory.join("content.gz"));
        let key = password();
        fs::write(&sealed, encoded(content.clone(), true, Some(key.clone())).await).unwrap();
        openssl(&["-d"], &key, &sealed, &packed).await;
        assert!(gunzip(&packed).await == content);
        fs::write(&packed, encoded(content.clone(), true, None).await).unwrap();
        assert!(gunzip(&packed).await == content);
        fs::write(&sealed, encoded(content.clone(), false, Some(key.clone())).await).unwrap();
        openssl(&["-d"], &key, &sealed, &packed).await;
        assert!(fs::read(&packed).unwrap() == content);
    }
}

/// Key derivations of every OpenSSL there was, with and without gzip; nothing is said about them when restoring.
#[tokio::test]
async fn what_is_written_there_is_read_here() {
    let derivations: [&[&str]; 6] = [
        &["-md", "md5"],
        &["-md", "sha256"],
        &["-pbkdf2"],
        &["-pbkdf2", "-md", "sha512", "-iter", "10000"],
        &["-md", "sha512"],
        &["-md", "sha1"],
    ];
    let content = dump(2_000_000);
    let (_guard, directory) = directory();
    let plain = directory.join("plain");
    fs::write(&plain, &content).unwrap();
    fs::write(directory.join("copy"), &content).unwrap();
    let packed = gzip(&directory.join("copy")).await;
    for source in [&plain, &packed] {
        let storage = Arc::new(Memory::default());
        store(&storage, &fs::read(source).unwrap(), 100_000).await;
        assert!(restored(&storage, Some(password())).await.unwrap() == content, "{source}, not encrypted");
        for derivation in derivations {
            let (key, sealed) = (password(), directory.join("sealed"));
            openssl(derivation, &key, source, &sealed).await;
            let storage = Arc::new(Memory::default());
            store(&storage, &fs::read(&sealed).unwrap(), 100_000).await;
            assert!(restored(&storage, Some(key)).await.unwrap() == content, "{source}, {derivation:?}");
        }
    }
}

/// Members in a row are one content, as `cat a.gz b.gz` makes them.
#[tokio::test]
async fn gzip_files_in_a_row_are_one() {
    let (_guard, directory) = directory();
    let mut stored = Vec::new();
    for part in ["first ", "second"] {
        let path = directory.join(part.trim_end());
        fs::write(&path, part).unwrap();
        stored.extend(fs::read(gzip(&path).await).unwrap());
    }
    let storage = Arc::new(Memory::default());
    store(&storage, &stored, 1000).await;
    assert_eq!(restored(&storage, None).await.unwrap(), b"first second");
}
