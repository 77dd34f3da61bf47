//! Many changes in one request.

use ashlar_protocol::{BulkReply, BulkSpec, Operation};

use super::Client;
use super::error::CallError;
use super::exchange::{Exchange, encode};

impl Client {
    /// Makes up to 100 changes, independently and in no particular order. Each has its own
    /// answer, whatever became of the others.
    ///
    /// # Errors
    /// When none was made: the appliance refuses the whole, or the call fails.
    pub async fn bulk_change(&self, spec: &BulkSpec) -> Result<BulkReply, CallError> {
        let operation = Operation::BulkChange;
        let exchange = Exchange {
            operation,
            id: None,
            query: String::new(),
            body: Some(encode(operation, spec)?),
        };
        let reply = self.exchange(exchange).await?;
        reply
            .decode()
            .map_err(|failure| CallError { operation, failure })
    }
}
