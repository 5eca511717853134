//! Texts that clients or operators write: equations, credentials, names.

use arbitrary::Unstructured;
use gradtape_engine::{
    attrs::{Attr, Attrs},
    aval::Aval,
    dtype::DType,
    op::Call,
    ops,
};
use gradtape_server::{
    access::{
        jwks::Source,
        jwt::{Keys, Verifier},
        tokens::Tokens,
    },
    checkpoints::store::Name,
    ids,
    session::registry::SessionId,
    tls,
};
use gradtape_tests::access::{AUDIENCE, Authority, Folder, ISSUER, Provider, claims};

use crate::hostile;

/// What equations are made of, and some that they are not.
const LETTERS: &[&str] =
    &["i", "j", "k", "b", "I", ",", "->", "...", ".", "-", ">", " ", "1", "ß", "\0", "ij", "ii"];

/// Equations of whatever letters, for tensors of small shapes.
pub fn equation(input: &[u8]) {
    let mut choices = Unstructured::new(input);
    let op = ops::find("einsum").expect("einsum is in the table");
    let mut text = String::new();
    for _ in 0..choices.int_in_range(0..=24).unwrap_or(0) {
        text += choices.choose(LETTERS).copied().unwrap_or_default();
    }
    let mut inputs = Vec::new();
    for _ in 0..choices.int_in_range(0..=4).unwrap_or(0) {
        let rank = choices.int_in_range(0..=4).unwrap_or(0);
        let shape: Vec<usize> =
            (0..rank).map(|_| choices.int_in_range(0..=3).unwrap_or(0)).collect();
        inputs.push(Aval::new(DType::F32, &shape[..]));
    }
    let given = vec![("equation".to_owned(), Attr::Text(text.as_str().into()))];
    let Ok(attrs) = Attrs::check(op.attrs, given) else { return };
    let call = Call { op, attrs: &attrs, inputs: &inputs };
    if let Ok(outputs) = (op.infer)(&call) {
        assert_eq!(outputs.len(), 1, "{text:?}");
        // A price, whatever it is.
        let _ = (op.cost)(&call, &outputs);
    }
}

/// Who may come in, with what they would show.
#[derive(Debug)]
pub struct Door {
    folder: Folder,
    token: Vec<Vec<u8>>,
    file: Vec<Vec<u8>>,
    known: Tokens,
    verifier: Verifier,
    signed: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
    certificates: Vec<Vec<u8>>,
}

/// The names of those who may come in.
const TOKEN_NAME: &str = "ada";
const SUBJECT: &str = "grace";

impl Door {
    /// One with a token, an identity provider, and certificates.
    pub fn new() -> Self {
        let folder = Folder::new();
        let token = folder.token(TOKEN_NAME);
        let file = std::fs::read(folder.token_file()).expect("the token file");
        let known = Tokens::open(&folder.token_file()).expect("a token file");
        let provider = Provider::new("one");
        let document = provider.document().into_bytes();
        let verifier = Verifier::new(ISSUER.to_owned(), AUDIENCE.to_owned());
        verifier.set_keys(Keys::parse(&document).expect("the keys of a provider"));
        let signed = provider.sign(&claims(SUBJECT));
        let certificate = |alternatives: &[&str]| {
            let pem = Authority::new().client(alternatives, "lin").certificate;
            let certificate = pem_content(&pem);
            assert!(tls::principal(Some(&[certificate.clone().into()])).is_some());
            certificate
        };
        let certificates = vec![certificate(&[]), certificate(&["host.example", "::1"])];
        let door = Self {
            token: vec![token.into_bytes()],
            file: vec![file],
            known,
            signed: vec![signed.into_bytes()],
            keys: vec![document],
            certificates,
            verifier,
            folder,
        };
        door.knock();
        door
    }

    /// Those who may come in do.
    fn knock(&self) {
        let text = |bytes: &[Vec<u8>]| String::from_utf8(bytes[0].clone()).expect("a text");
        assert!(self.known.find(&text(&self.token)).is_some(), "the token is not known");
        assert!(self.verifier.find(&text(&self.signed)).is_some(), "the signature is not known");
    }

    /// Tokens and files of tokens: a changed token is nobody's.
    pub fn tokens(&self, input: &[u8]) {
        let token = hostile::bytes(input, &self.token);
        if let Ok(text) = str::from_utf8(&token) {
            assert_eq!(self.known.find(text).is_some(), token == self.token[0], "{text:?}");
            let _ = SessionId::parse(text);
            let _ = ids::from_hex::<32>(text);
            let _ = Source::parse(text);
            if let Ok(name) = Name::parse(text) {
                let plain = !text.contains(['/', '\\', '\0']) && !text.starts_with('.');
                assert!(plain, "{name:?} leads elsewhere");
            }
        }
        let file = hostile::bytes(input, &self.file);
        let path = self.folder.path("spoiled.json");
        std::fs::write(&path, file).expect("a writable folder");
        let _ = Tokens::open(&path);
    }

    /// Signed tokens, keys and certificates: a token that is believed says who it said it is.
    pub fn signed(&self, input: &[u8]) {
        let token = hostile::bytes(input, &self.signed);
        if let Ok(text) = str::from_utf8(&token)
            && let Some(principal) = self.verifier.find(text)
        {
            assert_eq!(principal.to_string(), format!("jwt:{SUBJECT}"), "{text:?}");
        }
        let _ = Keys::parse(&hostile::bytes(input, &self.keys));
        let certificate = hostile::bytes(input, &self.certificates);
        if let Some(principal) = tls::principal(Some(&[certificate.into()])) {
            assert!(!principal.to_string().contains(char::is_control), "{principal}");
        }
    }
}

impl Default for Door {
    fn default() -> Self {
        Self::new()
    }
}

/// The bytes of a certificate in PEM.
fn pem_content(pem: &str) -> Vec<u8> {
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec()
}
