//! `GET /v1/conversations`: those there are, and those that have certain words.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::json;
use super::app::App;
use super::asker::{Asker, forbidden};
use super::conversations::shown;
use super::paging;
use super::problem::Problem;
use super::query::Query;
use super::schema::{self, refusals};
use super::users;
use crate::domain::conversation::{self as domain, Conversation};
use crate::domain::ids::MessageId;
use crate::domain::words::{Piece, Sought};
use crate::store::listing::{Filter, Key, Listed, Place, Sort};
use crate::store::search::Found;

/// The longest `q`, in characters.
const QUERY: usize = 500;

/// The query of `GET /v1/conversations`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// Only those that stand so.
    #[param(inline, value_type = Option<schema::conversation::State>)]
    state: Option<domain::State>,
    /// Those that are archived as well.
    #[param(value_type = Option<String>, pattern = "^(0|1|true|false)$")]
    include_archived: Option<bool>,
    /// For a key that acts for nobody: only this user's or visitor's; empty: only what such keys made for nobody. Absent: all of
    /// the application's. Anybody else may name only themself.
    #[param(max_length = 255)]
    user_id: Option<String>,
    /// Only those that this assistant answers in. There are no assistants yet, and so none of these.
    assistant_id: Option<String>,
    /// Only those with all these words in their title, or in one of their messages; of the last word the beginning will do. Signs
    /// between words mean nothing. What is said can be found about a second after it is saved. It is looked for in what one owner has:
    /// a key that acts for nobody says whose by `user_id`, and else finds what such keys made for nobody.
    #[param(max_length = 500)]
    q: Option<String>,
    /// What they are sorted by: `activity` where it is absent.
    #[param(inline)]
    sort: Option<By>,
    /// From the least or from the greatest: where it is absent titles from the least, times from the latest.
    #[param(inline)]
    order: Option<Order>,
    /// How many; 20 where it is absent.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// A `next_cursor` of a list that is sorted alike, for those after it.
    #[param(pattern = r"^([ac][0-9]{1,18}|t([0-9a-f]{2}){0,1200})\.conv_[0-9a-f]{32}$")]
    cursor: Option<String>,
}

/// What conversations are sorted by.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConversationSort)]
pub enum By {
    /// When the last message came.
    Activity,
    /// When they were made.
    Created,
    /// Their titles, in upper or lower case.
    Title,
}

/// From the least, or from the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// From the least.
    Asc,
    /// From the greatest.
    Desc,
}

/// Conversations.
#[derive(Serialize, ToSchema)]
#[schema(as = ConversationList)]
struct List {
    /// In their order.
    data: Vec<Entry>,
    /// Goes into `cursor` for those after these; null where there are none. Where very much matches, a page of a search may be
    /// short, or empty, and still have one.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// A conversation in a list.
#[derive(Serialize, ToSchema)]
#[schema(as = ListedConversation)]
struct Entry {
    #[serde(flatten)]
    #[schema(value_type = schema::conversation::Conversation)]
    conversation: Conversation,
    /// Where it has the words that were looked for; absent where none were.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    matched: Option<Match>,
}

/// Where a conversation has the words that were looked for. The pieces of a text, one behind the other, are the text; they
/// are plain text, and no HTML.
#[derive(Serialize, ToSchema)]
struct Match {
    /// The title in pieces.
    #[schema(value_type = Vec<schema::conversation::Piece>)]
    title: Vec<Piece>,
    /// The newest message that has them; absent where the title does.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<MatchedMessage>,
}

/// A message that has the words that were looked for.
#[derive(Serialize, ToSchema)]
struct MatchedMessage {
    /// Its id.
    #[schema(value_type = String, pattern = "^msg_[0-9a-f]{32}$")]
    id: MessageId,
    /// The part of its text around the first of them, in pieces.
    #[schema(value_type = Vec<schema::conversation::Piece>)]
    text: Vec<Piece>,
}

/// List conversations
///
/// One's own, without their messages, the most recently active first unless asked otherwise; for a key that acts for nobody all of
/// its application's. Archived ones are left out unless asked for.
#[utoipa::path(
    get,
    path = "/v1/conversations",
    tag = "Conversations",
    operation_id = "list_conversations",
    params(Listing),
    responses((status = 200, description = "The conversations.", body = List), refusals::OfConversations)
)]
pub async fn list(
    State(app): State<App>,
    Asker(caller): Asker,
    Query(listing): Query<Listing>,
) -> Result<Response, Problem> {
    let Listing { state, include_archived, user_id, assistant_id, q, sort, order, limit, cursor } = listing;
    let limit = paging::limit(limit)?;
    if q.as_ref().is_some_and(|q| q.chars().count() > QUERY) {
        return Err(Problem::field("q", format!("must have at most {QUERY} characters")));
    }
    let sort = match sort {
        None | Some(By::Activity) => Sort::Activity,
        Some(By::Created) => Sort::Created,
        Some(By::Title) => Sort::Title,
    };
    let from = cursor.as_deref().map(|text| {
        place(sort, text)
            .ok_or_else(|| Problem::field("cursor", "must be a `next_cursor` of a list that is sorted alike"))
    });
    let filter = Filter {
        state,
        archived: include_archived.unwrap_or(false),
        sort,
        descending: order.map_or(sort != Sort::Title, |order| order == Order::Desc),
        from: from.transpose()?,
        limit: limit as usize,
        silence: app.turns.silence(),
    };
    let whole = user_id.is_none() && caller.sees_all();
    let owner = match user_id {
        None => caller.owner.clone(),
        // The application itself.
        Some(id) if caller.sees_all() && id.is_empty() => caller.owner.clone(),
        Some(id) if caller.sees_all() => users::owner(&caller.owner, &id).map_err(|problem| problem.at("user_id"))?,
        Some(id) if caller.owner.person_id() == Some(&*id) => caller.owner.clone(),
        Some(_) => return Err(forbidden("It is another user's list.").at("user_id")),
    };
    let q = q.filter(|q| !q.is_empty());
    let sought = q.as_deref().map(Sought::read);
    let store = &app.turns.store;
    let Listed { conversations: data, next } = match sought {
        _ if assistant_id.is_some() => Listed { conversations: Vec::new(), next: None },
        // There is no word in it: nothing has it.
        Some(None) => Listed { conversations: Vec::new(), next: None },
        Some(Some(sought)) => {
            let Listed { conversations, next } = store.search(&owner, &sought, &filter).await?;
            Listed { conversations: conversations.into_iter().map(|found| matched(&sought, found)).collect(), next }
        }
        None => {
            let listed = match whole {
                true => store.every_conversation(&owner, &filter).await?,
                false => store.conversations(&owner, &filter).await?,
            };
            let Listed { conversations, next } = listed;
            let plain = |conversation| Entry { conversation, matched: None };
            Listed { conversations: conversations.into_iter().map(plain).collect(), next }
        }
    };
    let visible = |entry: Entry| Entry { conversation: shown(&caller, entry.conversation), ..entry };
    let data = data.into_iter().map(visible).collect();
    Ok(json(StatusCode::OK, &List { data, next_cursor: next.map(|place| cursor_to(sort, &place)) }))
}

fn matched(sought: &Sought, found: Found) -> Entry {
    let Found { conversation, message } = found;
    let title = sought.mark(&conversation.title);
    let message = message.map(|(id, text)| MatchedMessage { id, text: sought.mark_part(&text) });
    Entry { conversation, matched: Some(Match { title, message }) }
}

fn letter(sort: Sort) -> char {
    match sort {
        Sort::Activity => 'a',
        Sort::Created => 'c',
        Sort::Title => 't',
    }
}

fn cursor_to(sort: Sort, place: &Place) -> String {
    let key = match &place.key {
        Key::Number(number) => number.to_string(),
        Key::Text(text) => text.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    format!("{}{key}.{}", letter(sort), place.id)
}

/// Reads a `next_cursor`.
fn place(sort: Sort, text: &str) -> Option<Place> {
    let (key, id) = text.strip_prefix(letter(sort))?.split_once('.')?;
    let named =
        id.strip_prefix("conv_").is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let key = match sort {
        Sort::Activity | Sort::Created => {
            let digits = (1..=18).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_digit());
            Key::Number(key.parse().ok().filter(|_| digits)?)
        }
        Sort::Title => {
            let digits: Option<Vec<u8>> = key
                .bytes()
                .map(|digit| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
                .collect();
            let pairs = digits.filter(|digits| digits.len() % 2 == 0)?;
            Key::Text(pairs.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
        }
    };
    named.then(|| Place { key, id: id.to_owned().into() })
}
