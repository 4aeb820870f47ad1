//! The format of `openssl enc -aes-256-cbc`: `Salted__`, eight bytes of salt, AES-256-CBC with PKCS#7 padding under a key made of password and salt.

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkcs5::{bytes_to_key, pbkdf2_hmac};
use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, Crypter, Mode};
use secrecy::{ExposeSecret, SecretString};

/// What encrypted content begins with.
pub(super) const MAGIC: &[u8; 8] = b"Salted__";
/// Magic and salt.
pub(super) const HEADER: usize = 16;
/// Block size of AES.
pub(super) const BLOCK: usize = 16;
/// Iterations of `openssl enc -pbkdf2` unless `-iter` says otherwise.
const ITERATIONS: usize = 10_000;

/// A way from password and salt to key and initialisation vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Derivation {
    /// `-md sha256`: what OpenSSL 1.1 and later do by default, and what is written here.
    Sha256,
    /// `-md md5`: the default up to OpenSSL 1.0, of Kilo's and Train's guests.
    Md5,
    /// `-pbkdf2`.
    Pbkdf2Sha256,
    /// `-pbkdf2 -md sha512`: how Trove's documentation decrypts backups since Victoria.
    Pbkdf2Sha512,
    /// `-md sha512`.
    Sha512,
    /// `-md sha1`.
    Sha1,
}

impl Derivation {
    /// All that are tried, the likely ones first.
    pub(super) const ALL: [Derivation; 6] = [Self::Sha256, Self::Md5, Self::Pbkdf2Sha256, Self::Pbkdf2Sha512, Self::Sha512, Self::Sha1];

    /// Key and vector in a row.
    fn derive(self, password: &[u8], salt: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let cipher = Cipher::aes_256_cbc();
        let length = cipher.key_len() + BLOCK;
        let once = |digest| {
            let pair = bytes_to_key(cipher, digest, password, Some(salt), 1)?;
            Ok([pair.key, pair.iv.unwrap_or_default()].concat())
        };
        let stretched = |digest| {
            let mut both = vec![0; length];
            pbkdf2_hmac(password, salt, ITERATIONS, digest, &mut both).map(|()| both)
        };
        match self {
            Self::Sha256 => once(MessageDigest::sha256()),
            Self::Md5 => once(MessageDigest::md5()),
            Self::Sha512 => once(MessageDigest::sha512()),
            Self::Sha1 => once(MessageDigest::sha1()),
            Self::Pbkdf2Sha256 => stretched(MessageDigest::sha256()),
            Self::Pbkdf2Sha512 => stretched(MessageDigest::sha512()),
        }
    }

    fn crypter(self, mode: Mode, password: &SecretString, salt: &[u8]) -> Result<Crypter, ErrorStack> {
        let both = self.derive(password.expose_secret().as_bytes(), salt)?;
        let (key, iv) = both.split_at(Cipher::aes_256_cbc().key_len());
        Crypter::new(Cipher::aes_256_cbc(), mode, key, Some(iv))
    }
}

/// A direction of the cipher, fed in pieces.
pub(super) struct Stream(Crypter);

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// Encrypts with a fresh salt; also returns the header.
    pub(super) fn encrypt(password: &SecretString) -> Result<(Self, Vec<u8>), ErrorStack> {
        let mut header = MAGIC.to_vec();
        header.resize(HEADER, 0);
        rand_bytes(&mut header[MAGIC.len()..])?;
        let crypter = Derivation::Sha256.crypter(Mode::Encrypt, password, &header[MAGIC.len()..])?;
        Ok((Stream(crypter), header))
    }

    /// Decrypts what follows a header.
    pub(super) fn decrypt(derivation: Derivation, password: &SecretString, header: &[u8]) -> Result<Self, ErrorStack> {
        derivation.crypter(Mode::Decrypt, password, header.get(MAGIC.len()..HEADER).unwrap_or_default()).map(Stream)
    }

    /// The next bytes; some may be held back until more come.
    pub(super) fn update(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        let mut out = vec![0; bytes.len() + BLOCK];
        let written = self.0.update(bytes, &mut out)?;
        out.truncate(written);
        Ok(out)
    }

    /// The last bytes. An error when decrypting means wrong padding: the end is missing, or the key is wrong.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, ErrorStack> {
        let mut out = vec![0; 2 * BLOCK];
        let written = self.0.finalize(&mut out)?;
        out.truncate(written);
        Ok(out)
    }
}

/// The plaintext of the first `ciphertext`, which ends somewhere unless `whole`; `None` when the padding is wrong, or the host forbids the digest.
pub(super) fn peek(derivation: Derivation, password: &SecretString, header: &[u8], ciphertext: &[u8], whole: bool) -> Option<Vec<u8>> {
    let mut stream = Stream::decrypt(derivation, password, header).ok()?;
    let mut plain = stream.update(ciphertext).ok()?;
    if whole {
        plain.extend(stream.finish().ok()?);
    }
    Some(plain)
}
