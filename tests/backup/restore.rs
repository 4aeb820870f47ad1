//! Back from storage: what is not right is named.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use secrecy::SecretString;
use trove_guestagent::progress::Progress;
use trove_guestagent::strategies::backup::{Decoding, download};
use trove_guestagent::strategies::storage::Storage;

use super::memory::{Fault, Memory};
use super::support::{collect, encoded, inspect, md5, name, op, restored, retry, store};
use super::tools::{dump, password};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_goes_in_comes_out(size in 0..1_000_000_usize, noise in any::<bool>(), compress in any::<bool>(), encrypt in any::<bool>()) {
        let mut content = dump(size);
        if noise {
            openssl::rand::rand_bytes(&mut content).unwrap();
        }
        // Noise without a format around it looks like what a wrong key makes of a backup: no tool writes it.
        let encrypt = encrypt && (compress || !noise);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let key = encrypt.then(password);
        let result = runtime.block_on(async {
            let storage = Arc::new(Memory::default());
            store(&storage, &encoded(content.clone(), compress, key.clone()).await, 77_777).await;
            restored(&storage, key).await
        });
        prop_assert!(result.unwrap() == content);
    }
}

/// Noise is stored as it is, and grows by next to nothing.
#[tokio::test]
async fn what_cannot_be_compressed_is_stored() {
    let mut content = vec![0; 3 << 20];
    openssl::rand::rand_bytes(&mut content).unwrap();
    let stored = encoded(content.clone(), true, None).await;
    assert!(stored.len() < content.len() + content.len() / 1000, "{}", stored.len());
    let storage = Arc::new(Memory::default());
    store(&storage, &stored, 1 << 20).await;
    assert!(restored(&storage, None).await.unwrap() == content);
}

async fn stored(key: &SecretString) -> Arc<Memory> {
    let storage = Arc::new(Memory::default());
    let uploaded = store(&storage, &encoded(dump(3_000_000), true, Some(key.clone())).await, 100_000).await;
    assert!(uploaded.segments.len() > 3);
    storage
}

#[tokio::test]
async fn a_broken_read_goes_on_where_it_broke() {
    let key = password();
    let storage = stored(&key).await;
    storage.fail_reads([
        Some(Fault::Breaks(20_000)),
        Some(Fault::Refused { transient: true }),
        Some(Fault::EndsEarly(15_000)),
        Some(Fault::Refused { transient: true }),
    ]);
    assert!(restored(&storage, Some(key)).await.unwrap() == dump(3_000_000));
    assert_eq!(storage.offsets()[..6], [0, 20_000, 20_000, 35_000, 35_000, 0]);
}

#[tokio::test]
async fn reading_again_ends() {
    let key = password();
    let storage = stored(&key).await;
    storage.fail_reads([Some(Fault::Breaks(0)); 3]);
    let error = restored(&storage, Some(key.clone())).await.unwrap_err().to_string();
    assert!(error.contains("read database_backups/b1_00000000, tried 3 times"), "{error}");
    storage.fail_reads([Some(Fault::Hangs)]);
    let object = inspect(&storage).await;
    let mut how = Decoding { checksum: None, key: Some(key), retry: retry() };
    how.retry.stall = Duration::from_millis(50);
    let storage: Arc<dyn Storage> = storage;
    let content = collect(download(&op(), storage, object, how, Progress::new("t")).await.unwrap()).await.unwrap();
    assert!(content == dump(3_000_000), "a store that hangs is asked again");
}

#[tokio::test]
async fn a_flipped_byte_is_named() {
    let key = password();
    for at in [0, 9, 20, 50_000, 99_999] {
        let storage = stored(&key).await;
        storage.alter(&name().segment(1), |content| content[at] ^= 4);
        let error = restored(&storage, Some(key.clone())).await.unwrap_err().to_string();
        assert!(error.contains("read database_backups/b1_00000001") && error.contains("altered"), "{at}: {error}");
        let storage = stored(&key).await;
        storage.alter(&name().segment(0), |content| content[at] ^= 4);
        let error = restored(&storage, Some(key.clone())).await.unwrap_err().to_string();
        assert!(error.contains("read database_backups/b1_00000000") && error.contains("altered"), "{at}: {error}");
    }
}

#[tokio::test]
async fn a_missing_segment_is_named() {
    let key = password();
    let storage = stored(&key).await;
    let object = inspect(&storage).await;
    let mut lacking = object.clone();
    lacking.parts.remove(1);
    let refused = |object, checksum| {
        let how = Decoding { checksum, key: Some(key.clone()), retry: retry() };
        let storage: Arc<dyn Storage> = storage.clone();
        async move { download(&op(), storage, object, how, Progress::new("t")).await.unwrap_err().to_string() }
    };
    let error = refused(lacking, Some(object.checksum.clone())).await;
    assert!(error.contains("one is missing or cut off"), "{error}");
    let error = refused(object.clone(), Some(md5(b"another"))).await;
    assert!(error.contains(&object.checksum) && error.contains(&md5(b"another")), "{error}");
}

#[tokio::test]
async fn a_truncated_last_segment_is_named() {
    let key = password();
    let storage = stored(&key).await;
    let last = inspect(&storage).await.parts.pop().unwrap();
    storage.alter(&last.name, |content| content.truncate(content.len() - 7));
    let error = restored(&storage, Some(key)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("read {}", last.name)) && error.contains("broke off after"), "{error}");
}

#[tokio::test]
async fn keys_are_named_but_not_shown() {
    let key = password();
    let storage = stored(&key).await;
    let wrong = password();
    let error = restored(&storage, Some(wrong.clone())).await.unwrap_err().to_string();
    assert!(error.contains("cannot be decrypted with backup_aes_cbc_key"), "{error}");
    let error = restored(&storage, None).await.unwrap_err().to_string();
    assert!(error.contains("no backup_aes_cbc_key is set"), "{error}");
    let storage = Arc::new(Memory::default());
    store(&storage, &encoded(b"short".to_vec(), true, Some(key)).await, 1000).await;
    let error = restored(&storage, Some(wrong)).await.unwrap_err().to_string();
    assert!(error.contains("cannot be decrypted with backup_aes_cbc_key"), "{error}");
}

/// What was stored whole, but was cut off before: only its own formats can tell.
#[tokio::test]
async fn what_broke_off_before_it_was_stored_is_named() {
    let key = password();
    let sealed = encoded(dump(1_000_000), true, Some(key.clone())).await;
    let open = encoded(dump(1_000_000), true, None).await;
    for (content, cut, reason) in [
        (&sealed, 16, "wrong padding"),
        (&sealed, 3, "wrong padding"),
        (&sealed, sealed.len() - 12, "within the header of the encryption"),
        (&sealed, sealed.len() - 30, "within a block of the encryption"),
        (&open, 1, "breaks off"),
        (&open, open.len() / 2, "breaks off"),
    ] {
        let storage = Arc::new(Memory::default());
        store(&storage, &content[..content.len() - cut], 100_000).await;
        let error = restored(&storage, Some(key.clone())).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{cut}: {error}");
    }
    let storage = Arc::new(Memory::default());
    store(&storage, &[&open[..], b"garbage"].concat(), 100_000).await;
    let error = restored(&storage, None).await.unwrap_err().to_string();
    assert!(error.contains("behind the end of the gzip stream"), "{error}");
}
