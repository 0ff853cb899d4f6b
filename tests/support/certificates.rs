//! Certificates and their keys, as PEM, made for each run.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

/// One that signs others, and is trusted or not.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate that an authority has signed, and its key.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key();
        let certificate =
            params.self_signed(&key).unwrap_or_else(|error| panic!("cannot sign the authority {name}: {error}"));
        Authority { certificate: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// What those who trust it are given.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// For a server with these host names and IP addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.sign(params("a broker", names), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The same, of a time long past.
    pub fn expired_server(&self, names: &[&str]) -> Identity {
        let mut params = params("a broker of the past", names);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    pub fn client(&self, name: &str) -> Identity {
        self.sign(params(name, &[]), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Identity {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = key();
        let certificate =
            params.signed_by(&key, &self.issuer).unwrap_or_else(|error| panic!("cannot sign a certificate: {error}"));
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Valid for longer than any of this is of use; names that are IP addresses count as such.
fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let mut params =
        CertificateParams::new(names).unwrap_or_else(|error| panic!("no certificate for {common_name}: {error}"));
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// An elliptic curve's key, in PKCS #8: what brokers, OpenSSL and rustls all read.
fn key() -> KeyPair {
    KeyPair::generate().unwrap_or_else(|error| panic!("cannot make a key: {error}"))
}
