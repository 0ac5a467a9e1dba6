//! The bank over gRPC: typed changes and questions on top of `kontiki_client`, which finds the
//! leader, follows redirects, and sends again what was never proposed.

use kontiki_client::{Address, Client, Consistency};
use kontiki_node::machine::Typed;

use crate::machine::{Answer, Bank, Change, Question, Reply};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// See [`kontiki_client::Error`].
    #[error("{0}")]
    Call(kontiki_client::Error),
    /// The servers are of another bank, or of a newer one. A change was replicated all the same.
    #[error("the answer is not understood: {0}")]
    Answer(serde_json::Error),
}

impl Error {
    /// Whether a change may have been made all the same. Whoever makes it again may make it twice.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Call(error) => error.is_unknown(),
            Self::Answer(_) => true,
        }
    }
}

/// What a change came to, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What the bank says.
    pub reply: Reply,
    /// Its place in the log.
    pub index: u64,
}

/// A client of the bank. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BankClient {
    client: Client,
}

impl BankClient {
    /// Of the servers behind these endpoints, HOST:PORT of client ports.
    ///
    /// # Errors
    /// There is none, or one is no HOST:PORT.
    pub fn new<S: AsRef<str>>(endpoints: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let client = Client::new(endpoints).map_err(Error::Call)?;
        Ok(Self { client })
    }

    /// Makes a change. What the bank refuses is no error but a [`Reply::Refused`].
    ///
    /// # Errors
    /// It failed, or its outcome is not known: see [`Error::is_unknown`].
    pub async fn write(&self, change: &Change) -> Result<Written, Error> {
        let command = Typed::<Bank>::command(change).expect("a change is JSON");
        let written = self.client.write(command).await.map_err(Error::Call)?;
        Ok(Written {
            reply: Typed::<Bank>::reply(&written.reply).map_err(Error::Answer)?,
            index: written.index,
        })
    }

    /// Asks a question. The answer reflects every change that was acknowledged before.
    ///
    /// # Errors
    /// There is no answer; nothing was changed.
    pub async fn ask(&self, question: &Question) -> Result<Answer, Error> {
        let query = Typed::<Bank>::query(question).expect("a question is JSON");
        let answer = self.client.read(query, Consistency::Linearizable).await;
        let answer = answer.map_err(Error::Call)?;
        Typed::<Bank>::answer(&answer.reply).map_err(Error::Answer)
    }

    /// Asks one server, which answers from what it has applied, however old.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_at(&self, endpoint: &Address, question: &Question) -> Result<Answer, Error> {
        let query = Typed::<Bank>::query(question).expect("a question is JSON");
        let asked = self.client.read_at(endpoint, query, Consistency::Stale);
        let answer = asked.await.map_err(Error::Call)?;
        Typed::<Bank>::answer(&answer.reply).map_err(Error::Answer)
    }
}
