//! What happens to an operation before the schema runs it: the place where the specification's
//! coercion of variables and collection of fields belong.

use async_graphql::{Request, ServerError};

use super::{documents::Document, scan};

/// Makes `request` execute `document`, or says why it is not executed.
///
/// # Errors
/// A request error: nothing of the operation runs.
pub(super) fn prepare(request: &mut Request, document: &Document) -> Result<(), ServerError> {
    let analysed = document.analysed.as_ref().map_err(Clone::clone)?;
    scan::check_variables(&request.variables).map_err(|problem| ServerError::new(problem, None))?;
    request.set_parsed_query(analysed.parsed.clone());
    Ok(())
}
