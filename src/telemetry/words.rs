//! The journal's words without a journal: for whoever shows what the agent would say.

use super::journal::{Tap, line};
use super::log::{Notable, log};
use super::told::Told;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::subscriber::with_default;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};

/// The line that the journal would get, without a time; `None` for what is too small for it.
pub fn words(notable: &Notable<'_>) -> Option<String> {
    let page: Arc<Mutex<Option<Told>>> = Arc::default();
    let taken = Arc::clone(&page);
    let tap = Tap(move |told: &Told| {
        *taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(told.clone());
    });
    let subscriber = tracing_subscriber::registry().with(tap.with_filter(LevelFilter::INFO));
    with_default(subscriber, || log(notable));
    let told = page.lock().unwrap_or_else(PoisonError::into_inner).take();
    told.map(|told| line(&told, false).trim().to_owned())
}
