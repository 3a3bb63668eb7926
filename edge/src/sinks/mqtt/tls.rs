//! TLS for MQTT: whom to trust, and how to show who we are.

use crate::config::sinks::Secret;
use rumqttc_v4::tokio_rustls::rustls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// How a broker is reached over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSpec {
    /// Certificates (PEM) that are trusted instead of the web's.
    pub authorities: Option<Vec<u8>>,
    /// A certificate of our own.
    pub client: Option<ClientCertificate>,
}

/// How a device shows who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority (PEM).
    pub chain: Vec<u8>,
    /// Its key (PEM).
    pub key: Secret,
}

/// The settings in the library's form; the error says what is wrong with them.
pub fn config(spec: &TlsSpec) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match &spec.authorities {
        Some(pem) => {
            for certificate in certificates(pem)? {
                roots.add(certificate).map_err(|e| format!("a certificate that is to be trusted: {e}"))?;
            }
        }
        // The same as the webhooks', and the same on every device.
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| e.to_string())?.with_root_certificates(roots);
    let config = match &spec.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let key = PrivateKeyDer::from_pem_slice(client.key.reveal().as_bytes());
            let key = key.map_err(|e| format!("the key of the client's certificate: {e}"))?;
            let chain = certificates(&client.chain)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| format!("the client's certificate: {e}"))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in PEM form".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("a certificate: {error}")),
    }
}
