//! The routes of the spells API and its server: statuses, headers and the JSON of errors.
//!
//! Owns nothing between requests but the storage's handle. Storage calls are made on threads that may block.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::store::Added;
use super::{MAX_SPELLS, Spell, Store, StoreError};
use crate::process::{EndSignals, say};

/// Most bytes of a request's body: the longest spell, written with escapes, and some room.
pub const MAX_BODY: usize = 16 * 1024;
/// How long exchanges that are under way may take once the program is asked to end.
const DRAIN: Duration = Duration::from_secs(5);
const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");

/// Serves the API on `listener` as `name` until a signal asks to end; what is under way is finished, for at most 5 seconds.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    name: HeaderValue,
    store: Store,
    mut end_signals: EndSignals,
) -> io::Result<()> {
    let (end, ending) = oneshot::channel::<()>();
    let serving = axum::serve(listener, router(name, store))
        .with_graceful_shutdown(async {
            let _ = ending.await;
        })
        .into_future();
    let serving = tokio::spawn(serving);
    end_signals.asked().await;
    let _ = end.send(());
    match tokio::time::timeout(DRAIN, serving).await {
        Ok(served) => served.map_err(io::Error::other)?,
        // A client that sends half a request must not hold up the end.
        Err(_) => Ok(()),
    }
}

fn router(name: HeaderValue, store: Store) -> Router {
    Router::new()
        .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
        .route("/spells", get(list).post(add))
        .route("/spells/{id}", get(one).delete(delete))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(name, served_by))
        .with_state(Arc::new(store))
}

type Spells = State<Arc<Store>>;

async fn list(State(store): Spells) -> Result<Json<Vec<Spell>>, Refusal> {
    Ok(Json(ask(store, Store::list).await?))
}

async fn one(
    State(store): Spells,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Spell>, Refusal> {
    let id = id_of(id)?;
    ask(store, move |store| store.get(id)).await?.map(Json).ok_or_else(|| no_spell(id))
}

async fn add(
    State(store): Spells,
    spell: Result<Json<Spell>, JsonRejection>,
) -> Result<Response, Refusal> {
    let Json(spell) = spell.map_err(not_a_spell)?;
    if let Some(why) = spell.fault() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, why));
    }
    let (added, spell) = ask(store, move |store| Ok((store.add(&spell)?, spell))).await?;
    match added {
        Added::New => {
            let location = [(header::LOCATION, format!("/spells/{}", spell.id))];
            Ok((StatusCode::CREATED, location, Json(spell)).into_response())
        }
        Added::Known => {
            Err(Refusal::new(StatusCode::CONFLICT, format!("there is a spell {}", spell.id)))
        }
        Added::Full => Err(Refusal::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("there are {MAX_SPELLS} spells: delete one first"),
        )),
    }
}

async fn delete(
    State(store): Spells,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    let id = id_of(id)?;
    if ask(store, move |store| store.delete(id)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_spell(id))
    }
}

async fn unknown_path(uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!("nothing at {}: there are /spells, /spells/ID and /healthz", uri.path()),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} is not for {}: see the header Allow", uri.path()),
    )
}

/// Marks every response with the instance's name, and logs all but the questions whether it is alive.
async fn served_by(State(name): State<HeaderValue>, request: Request, next: Next) -> Response {
    let line = (request.uri().path() != "/healthz")
        .then(|| format!("{} {}", request.method(), request.uri().path()));
    let mut response = next.run(request).await;
    if let Some(line) = line {
        say(format_args!("{line} -> {}", response.status().as_u16()));
    }
    response.headers_mut().insert(SERVED_BY, name);
    response
}

/// Runs `work` on a thread that may block.
async fn ask<T: Send + 'static>(
    store: Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(storage_failed(&error)),
        Err(panicked) => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, panicked)),
    }
}

/// The reason is for the log; a client is told only whether it is worth trying again.
fn storage_failed(error: &StoreError) -> Refusal {
    say(format_args!("error: {error}"));
    match error {
        StoreError::Busy(_) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the database is busy: try again")
        }
        StoreError::Broken(_) => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the database failed: see the log")
        }
    }
}

/// An id that is no number names no spell: 404, as any other unknown one.
fn id_of(id: Result<Path<String>, PathRejection>) -> Result<u32, Refusal> {
    let Path(id) = id.map_err(|error| Refusal::new(error.status(), error.body_text()))?;
    id.parse().map_err(|_| {
        Refusal::new(StatusCode::NOT_FOUND, format!("no spell `{id}`: ids are whole numbers"))
    })
}

fn no_spell(id: u32) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("no spell {id}"))
}

/// JSON of the wrong shape is 422 to axum; here whatever is wrong with the JSON is 400.
fn not_a_spell(error: JsonRejection) -> Refusal {
    match error {
        JsonRejection::JsonDataError(error) => {
            Refusal::new(StatusCode::BAD_REQUEST, error.body_text())
        }
        JsonRejection::MissingJsonContentType(_) => Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a spell is sent as JSON, with `Content-Type: application/json`",
        ),
        other if other.status() == StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {MAX_BODY} bytes"),
        ),
        other => Refusal::new(other.status(), other.body_text()),
    }
}

/// A status and why, as JSON.
struct Refusal {
    status: StatusCode,
    why: String,
}

impl Refusal {
    fn new(status: StatusCode, why: impl Display) -> Refusal {
        Refusal { status, why: why.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.why }))).into_response()
    }
}
