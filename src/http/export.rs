//! `GET /v1/conversations/{id}/export`: a conversation as a file.

use std::fmt::Write;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::app::{App, no_conversation};
use super::asker::Mine;
use super::problem::Problem;
use super::query::Query;
use super::schema::{self, refusals};
use crate::access::revoked::Watch;
use crate::domain::audit::Action;
use crate::domain::conversation::Conversation;
use crate::domain::ids::ConversationId;
use crate::domain::json::to_string;
use crate::domain::message::{Message, Role};
use crate::store::audit::OK;
use crate::turn::export::Export;

/// What a conversation is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ExportFormat)]
pub enum Format {
    /// JSON: the conversation, and every message of every branch.
    #[default]
    Json,
    /// Markdown: the newest path, to be read.
    Markdown,
}

/// The query of `GET /v1/conversations/{id}/export`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Exporting {
    /// `json` where it is absent.
    #[param(inline)]
    format: Option<Format>,
}

/// A conversation, whole.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is written piece by piece")]
struct ExportedConversation {
    /// The conversation.
    #[schema(value_type = schema::conversation::Conversation)]
    conversation: (),
    /// Every message of every branch, oldest first.
    #[schema(value_type = Vec<schema::message::Message>)]
    messages: (),
}

/// Export a conversation
///
/// As a file, which is written while it is read from the record. As JSON it has every branch; as Markdown the path to the newest
/// message, each message as a quotation, so that nothing in it is taken for a part of the page. A file that breaks off is cut
/// short on the wire as well: the connection ends without its last chunk. So does one whose reader is revoked meanwhile.
#[utoipa::path(
    get,
    path = "/v1/conversations/{id}/export",
    tag = "Conversations",
    operation_id = "export_conversation",
    params(("id" = String, Path, description = "The conversation."), Exporting),
    responses(
        (
            status = 200, description = "The file.",
            content((ExportedConversation = "application/json"), (String = "text/markdown")),
            headers(("Content-Disposition" = String, description = "A name for the file, made of the id.")),
        ),
        refusals::OfExport
    )
)]
pub async fn get(
    State(app): State<App>,
    method: Method,
    Mine { who, id }: Mine<ConversationId>,
    Query(exporting): Query<Exporting>,
) -> Result<Response, Problem> {
    let format = exporting.format.unwrap_or_default();
    let export = app
        .turns
        .export(&who.owner, &id, format == Format::Markdown, who.caller.instructs())
        .await?
        .ok_or_else(no_conversation)?;
    // Before the first byte of it leaves. A HEAD hands nothing out.
    if method == Method::GET {
        app.turns.store.note(&app.deed(&who.caller, Action::ConversationExport, Some((&id).into())), OK).await?;
    }
    let (kind, extension) = match format {
        Format::Json => ("application/json", "json"),
        Format::Markdown => ("text/markdown; charset=utf-8", "md"),
    };
    let name = format!("attachment; filename=\"{}.{extension}\"", export.conversation.id);
    let name = HeaderValue::try_from(name).map_err(|_| Problem::internal())?;
    let state = Writing { export, format, watch: who.watch(), begun: false, any: false, over: false };
    let body = Body::from_stream(stream::try_unfold(state, write));
    Ok((StatusCode::OK, [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CONTENT_DISPOSITION, name)], body)
        .into_response())
}

struct Writing {
    export: Export,
    format: Format,
    /// What lets the reader in.
    watch: Option<Watch>,
    begun: bool,
    /// A message has been written.
    any: bool,
    over: bool,
}

/// Writes the next piece.
async fn write(mut state: Writing) -> Result<Option<(Bytes, Writing)>, std::io::Error> {
    if state.over {
        return Ok(None);
    }
    let mut text = String::new();
    if !state.begun {
        state.begun = true;
        match state.format {
            Format::Json => {
                let conversation = to_string(&state.export.conversation);
                text.push_str("{\"conversation\":");
                text.push_str(&conversation);
                text.push_str(",\"messages\":[");
            }
            Format::Markdown => markdown_head(&mut text, &state.export.conversation),
        }
        return Ok(Some((text.into(), state)));
    }
    let page = state.export.page().await.map_err(|error| {
        tracing::warn!(%error, conversation_id = %state.export.conversation.id, "an export breaks off");
        std::io::Error::other("the record cannot be read")
    })?;
    if state.watch.as_ref().is_some_and(Watch::is_revoked) {
        return Err(std::io::Error::other("what let the reader in has been revoked"));
    }
    match page {
        Some(messages) if messages.is_empty() => return Err(std::io::Error::other("the conversation is gone")),
        Some(messages) => {
            for message in &messages {
                match state.format {
                    Format::Json => {
                        if state.any {
                            text.push(',');
                        }
                        text.push_str(&to_string(message));
                    }
                    Format::Markdown => markdown(&mut text, message),
                }
                state.any = true;
            }
        }
        None => {
            state.over = true;
            if state.format == Format::Json {
                text.push_str("]}\n");
            }
        }
    }
    Ok(Some((text.into(), state)))
}

fn markdown_head(text: &mut String, conversation: &Conversation) {
    let Conversation { id, title, created_at, .. } = conversation;
    let _never_fails = write!(text, "# {}\n\n`{id}`, {created_at}\n", plain(title));
}

fn markdown(text: &mut String, message: &Message) {
    let who = match (message.role, &message.model) {
        (Role::User, _) => "User".to_owned(),
        (Role::Assistant, Some(model)) => format!("Assistant ({})", plain(model)),
        (Role::Assistant, None) => "Assistant".to_owned(),
    };
    let _never_fails = write!(text, "\n## {who}, {}\n\n", message.created_at);
    // A quotation ends whatever is left open in it, such as a block of code.
    for line in message.content.text().replace("\r\n", "\n").split(['\n', '\r']) {
        text.push_str("> ");
        text.push_str(line);
        text.push('\n');
    }
    if !message.sources.is_empty() {
        text.push('\n');
    }
    for source in &message.sources {
        let url = source.url.as_deref().map(|url| format!(": {}", plain(url))).unwrap_or_default();
        let _never_fails = writeln!(text, "- \\[{}\\] {}{url}", source.number, plain(&source.title));
    }
}

/// A text on one line, of which no sign means anything in Markdown or HTML.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for sign in text.chars() {
        if sign.is_ascii_punctuation() {
            plain.push('\\');
        }
        plain.push(if sign.is_control() || matches!(sign, '\u{2028}' | '\u{2029}') { ' ' } else { sign });
    }
    plain.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sign_of_a_title_means_anything() {
        assert_eq!(plain("a *b* [c](d)\n# e <b>"), "a \\*b\\* \\[c\\]\\(d\\) \\# e \\<b\\>");
        assert_eq!(plain(" \u{0}é\u{2028}1. "), "é 1\\.");
    }
}
