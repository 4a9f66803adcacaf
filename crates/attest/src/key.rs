//! Keys as cosign keeps them: ECDSA on P-256, the private one encrypted with a password.
//! <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>

use base64::prelude::{BASE64_STANDARD, Engine};
use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Key as BoxKey, Nonce, XSalsa20Poly1305};
use koskit_llb::Digest;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding,
};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Debug};
use thiserror::Error;

/// What cosign and skopeo write, today and before.
const ENCRYPTED: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
/// Which of them we write: every version of both reads it.
const WRITTEN: &str = ENCRYPTED[1];
/// Work that a password costs: 2^15 as cosign has it, 32 MiB and a tenth of a second.
const LOG_N: u8 = 15;
/// What a key file may make us use at most: 128 · N · r bytes.
const MAX_MEMORY: u64 = 256 << 20;

/// Why a key cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// No key.
    #[error("it is not a private key: {0}")]
    Private(String),
    /// No key.
    #[error("it is not a public key in PEM form: {0}")]
    Public(String),
    /// The password does not open it.
    #[error("the password is wrong, or the key file is damaged")]
    Password,
    /// The system has no random numbers.
    #[error("cannot get random numbers: {0}")]
    Random(getrandom::Error),
}

/// A private key.
pub struct Key(SigningKey);

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(of {})", self.public().id())
    }
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        loop {
            // All but a few of the 2^256 numbers are keys.
            let bytes: [u8; 32] = random()?;
            if let Ok(key) = SigningKey::from_slice(&bytes) {
                return Ok(Self(key));
            }
        }
    }

    /// Whether such a file needs a password.
    pub fn is_encrypted(pem: &str) -> bool {
        ENCRYPTED.iter().any(|label| pem.contains(&format!("-----BEGIN {label}-----")))
    }

    /// Reads a key: cosign's encrypted form, PKCS#8, or SEC 1. The password is of use for the
    /// first only.
    ///
    /// # Errors
    /// It is none, or the password is wrong.
    pub fn from_pem(pem: &str, password: &[u8]) -> Result<Self, KeyError> {
        let (label, bytes) = pem_rfc7468::decode_vec(pem.trim().as_bytes())
            .map_err(|e| KeyError::Private(format!("it is not in PEM form ({e})")))?;
        let invalid = |e: &dyn fmt::Display| KeyError::Private(e.to_string());
        match label {
            label if ENCRYPTED.contains(&label) => {
                let sealed: Sealed = serde_json::from_slice(&bytes).map_err(|e| invalid(&e))?;
                let der = sealed.open(password)?;
                SigningKey::from_pkcs8_der(&der).map(Self).map_err(|e| invalid(&e))
            }
            "PRIVATE KEY" => SigningKey::from_pkcs8_der(&bytes).map(Self).map_err(|e| invalid(&e)),
            "EC PRIVATE KEY" => {
                let key = p256::SecretKey::from_sec1_der(&bytes).map_err(|e| invalid(&e))?;
                Ok(Self(key.into()))
            }
            other => Err(KeyError::Private(format!("a {other:?} is of no use here"))),
        }
    }

    /// Writes the key in cosign's form.
    ///
    /// # Errors
    /// The system has no random numbers.
    ///
    /// # Panics
    /// Never: a key can be encoded.
    pub fn to_pem(&self, password: &[u8]) -> Result<String, KeyError> {
        let der = self.0.to_pkcs8_der().expect("a key of P-256 has an encoding");
        let sealed = serde_json::to_vec(&Sealed::new(der.as_bytes(), password)?);
        let sealed = sealed.expect("it is strings and numbers");
        Ok(pem_rfc7468::encode_string(WRITTEN, LineEnding::LF, &sealed)
            .expect("the label is well-formed"))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// Signs bytes: ECDSA with SHA-256, by RFC 6979, so that the same bytes have the same
    /// signature. In ASN.1 DER.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.0.sign(bytes);
        signature.as_bytes().to_vec()
    }
}

impl PublicKey {
    /// Reads a key: SPKI in PEM form, as cosign and openssl write it.
    ///
    /// # Errors
    /// It is none.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_public_key_pem(pem.trim());
        key.map(Self).map_err(|e| KeyError::Public(e.to_string()))
    }

    /// Writes it.
    ///
    /// # Panics
    /// Never: a key can be encoded.
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("a key of P-256 has an encoding")
    }

    /// Whether these bytes were signed by the key's owner; the signature is in ASN.1 DER.
    pub fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        DerSignature::try_from(signature).is_ok_and(|s| self.0.verify(bytes, &s).is_ok())
    }

    /// The digest of its encoding, which tells keys apart.
    ///
    /// # Panics
    /// Never: a key can be encoded.
    pub fn id(&self) -> Digest {
        let der = self.0.to_public_key_der().expect("a key of P-256 has an encoding");
        Digest::of(der.as_bytes())
    }
}

fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    Ok(bytes)
}

/// What is in an encrypted key file, as
/// <https://github.com/secure-systems-lab/go-securesystemslib> writes it.
#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

impl Sealed {
    fn new(plain: &[u8], password: &[u8]) -> Result<Self, KeyError> {
        let (salt, nonce): ([u8; 32], [u8; 24]) = (random()?, random()?);
        let params = Params { n: 1 << LOG_N, r: 8, p: 1 };
        let cipher = params.cipher(password, &salt)?;
        let sealed = cipher.encrypt(Nonce::from_slice(&nonce), plain);
        Ok(Self {
            kdf: Kdf { name: "scrypt".into(), params, salt: BASE64_STANDARD.encode(salt) },
            cipher: Cipher { name: "nacl/secretbox".into(), nonce: BASE64_STANDARD.encode(nonce) },
            ciphertext: BASE64_STANDARD.encode(sealed.map_err(|_| KeyError::Password)?),
        })
    }

    fn open(&self, password: &[u8]) -> Result<Vec<u8>, KeyError> {
        let unknown = |what: &str, name: &str| {
            KeyError::Private(format!("its {what} is {name:?}, which koskit does not know"))
        };
        if self.kdf.name != "scrypt" {
            return Err(unknown("key derivation", &self.kdf.name));
        }
        if self.cipher.name != "nacl/secretbox" {
            return Err(unknown("cipher", &self.cipher.name));
        }
        let decode =
            |text: &str| BASE64_STANDARD.decode(text).map_err(|e| KeyError::Private(e.to_string()));
        let (salt, nonce) = (decode(&self.kdf.salt)?, decode(&self.cipher.nonce)?);
        let nonce: [u8; 24] =
            nonce.try_into().map_err(|_| KeyError::Private("its nonce is not 24 bytes".into()))?;
        let cipher = self.kdf.params.cipher(password, &salt)?;
        let plain = cipher.decrypt(Nonce::from_slice(&nonce), &decode(&self.ciphertext)?[..]);
        plain.map_err(|_| KeyError::Password)
    }
}

impl Params {
    fn cipher(&self, password: &[u8], salt: &[u8]) -> Result<XSalsa20Poly1305, KeyError> {
        let memory = self.n.checked_mul(128).and_then(|n| n.checked_mul(self.r.into()));
        let allowed = self.n.is_power_of_two() && memory.is_some_and(|m| m <= MAX_MEMORY);
        let params = scrypt::Params::new(self.n.trailing_zeros() as u8, self.r, self.p);
        let (true, 1..=16, Ok(params)) = (allowed, self.p, params) else {
            return Err(KeyError::Private("its parameters for scrypt are not sensible".into()));
        };
        let mut key = [0; 32];
        scrypt::scrypt(password, salt, &params, &mut key)
            .map_err(|e| KeyError::Private(e.to_string()))?;
        Ok(XSalsa20Poly1305::new(BoxKey::from_slice(&key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_with_the_right_password_only() {
        let key = Key::generate().unwrap();
        let pem = key.to_pem(b"secret").unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n"), "{pem}");
        assert!(Key::is_encrypted(&pem));
        let back = Key::from_pem(&pem, b"secret").unwrap();
        assert_eq!(back.public(), key.public());
        assert!(matches!(Key::from_pem(&pem, b"Secret"), Err(KeyError::Password)));
    }

    #[test]
    fn what_a_key_signs_its_public_half_verifies_and_no_other() {
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let signature = key.sign(b"text");
        let public = PublicKey::from_pem(&key.public().to_pem()).unwrap();
        assert!(public.verifies(b"text", &signature));
        assert!(!public.verifies(b"Text", &signature));
        assert!(!other.public().verifies(b"text", &signature));
        assert!(!public.verifies(b"text", b""));
        assert_eq!(signature, key.sign(b"text"));
    }

    #[test]
    fn a_key_file_cannot_make_us_use_all_memory() {
        let key = Key::generate().unwrap();
        let mut sealed = Sealed::new(key.0.to_pkcs8_der().unwrap().as_bytes(), b"").unwrap();
        for (n, r, p) in
            [(1 << 40, 8, 1), (1 << 15, 1 << 20, 1), (3, 8, 1), (1 << 15, 8, 99), (0, 0, 0)]
        {
            sealed.kdf.params = Params { n, r, p };
            assert!(matches!(sealed.open(b""), Err(KeyError::Private(_))), "{n} {r} {p}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_a_reason() {
        for text in ["", "key", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Key::from_pem(text, b"").is_err() && PublicKey::from_pem(text).is_err());
        }
        let json = pem_rfc7468::encode_string(WRITTEN, LineEnding::LF, b"{}").unwrap();
        let error = Key::from_pem(&json, b"").unwrap_err().to_string();
        assert!(error.contains("missing field"), "{error}");
    }
}
