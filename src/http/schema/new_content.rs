//! What is said in a request.

use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema};
use utoipa::openapi::{RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

use super::message::ContentPart;
use super::reference;

/// [`Content`](super::message::Content) in a request, where there must be some text in it.
pub struct NewContent;

impl PartialSchema for NewContent {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).description(Some("Plain text."));
        let parts = ArrayBuilder::new()
            .items(reference::<ContentPart>())
            .min_items(Some(1))
            .description(Some("Parts, in the order they follow each other; not all of them empty."));
        let about = "A message's text: plain, or a list of parts. There must be some text in it.";
        Schema::from(OneOfBuilder::new().item(text).item(parts).description(Some(about)).build()).into()
    }
}

impl ToSchema for NewContent {}
