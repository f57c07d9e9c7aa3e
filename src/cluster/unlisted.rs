//! Why objects cannot be listed.
//!
//! Given the failure of a call; given back an error that says what to do about it, since a server that nobody reaches,
//! credentials that it does not know and rights that are missing are mended in different places. Nothing is asked here.

use std::error::Error;

/// Why objects cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// No answer came, or none of an API server.
    #[error(
        "the API server cannot be asked ({cause}); check that it runs, and its address, certificates and credentials in \
         the kubeconfig"
    )]
    Unreachable {
        /// What is at the bottom of it.
        cause: String,
        /// The failure of the call.
        source: Box<kube::Error>,
    },
    /// The API server does not know who asks.
    #[error(
        "the API server does not accept the credentials of the kubeconfig; renew its token or certificate"
    )]
    Credentials {
        /// What the API server says.
        source: Box<kube::Error>,
    },
    /// Who asks may not.
    #[error(
        "{objects} cannot be listed; the user of the kubeconfig needs the {verbs} on them in all namespaces"
    )]
    Forbidden {
        /// What was asked for.
        objects: String,
        /// What is needed for it.
        verbs: &'static str,
        /// What the API server says.
        source: Box<kube::Error>,
    },
    /// The API server has another reason.
    #[error(
        "{objects} cannot be listed: the answer is {code}; check that the kubeconfig names an API server, and that it is well, then try again"
    )]
    Refused {
        /// What was asked for.
        objects: String,
        /// The status code.
        code: u16,
        /// What the API server says.
        source: Box<kube::Error>,
    },
}

impl ListError {
    /// The error for a list of some objects, which needs some verbs.
    pub fn new(objects: &str, verbs: &'static str, error: kube::Error) -> Self {
        let (objects, source) = (objects.to_owned(), Box::new(error));
        let code = match &*source {
            kube::Error::Api(status) => Some(status.code),
            _ => None,
        };
        match code {
            None => Self::Unreachable {
                cause: cause(&source),
                source,
            },
            Some(401) => Self::Credentials { source },
            Some(403) => Self::Forbidden {
                objects,
                verbs,
                source,
            },
            Some(code) => Self::Refused {
                objects,
                code,
                source,
            },
        }
    }
}

/// What is at the bottom of a failure.
fn cause(error: &kube::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn said(error: kube::Error) -> String {
        ListError::new("Pod objects", "verb list", error).to_string()
    }

    #[test]
    fn who_cannot_be_asked_who_does_not_know_and_who_forbids_are_told_apart() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let refused = said(kube::Error::Service(Box::new(refused)));
        assert!(
            refused.contains("cannot be asked (connection refused); check that it runs"),
            "{refused}"
        );
        let answered = |code: u16| {
            let status = kube::core::Status::failure("no", "Refused").with_code(code);
            said(kube::Error::Api(Box::new(status)))
        };
        assert!(answered(401).contains("renew its token or certificate"));
        assert!(answered(403).contains("Pod objects cannot be listed; the user"));
        assert!(answered(403).contains("needs the verb list on them"));
        assert!(answered(404).contains("the answer is 404; check that the kubeconfig names"));
    }
}
