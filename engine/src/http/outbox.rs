//! What is on its way to a client: bounded, so that one who does not read harms only itself.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::websocket::Close;

/// Bytes that may wait of one operation. Its first message is taken whatever its size.
const WAITING: usize = 1 << 20;
/// Bytes that may wait of all that one client has asked for; who has more is not reading.
const UNREAD: usize = 32 << 20;
/// What a message weighs beside its text.
const MESSAGE: usize = 64;
/// Messages of the protocol itself that may wait: pongs and acknowledgements. Who pings and does not read has
/// more.
const REPLIES: usize = 1000;

/// A message on its way.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) enum Out {
    Text(String),
    /// Asks whether somebody is there.
    Ping,
    /// The last one.
    Close(Close),
}

/// There is no room.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Full;

#[derive(Debug, Default)]
pub(in crate::http) struct Outbox {
    queue: Mutex<Queue>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<(Of, Out)>,
    /// Bytes that wait of each operation.
    waiting: HashMap<String, usize>,
    /// Replies that wait.
    replies: usize,
    /// Bytes of everything that waits.
    bytes: usize,
    closing: bool,
}

impl Out {
    fn weight(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + MESSAGE,
            Self::Ping | Self::Close(_) => MESSAGE,
        }
    }
}

/// What a message is part of.
#[derive(Debug, PartialEq, Eq)]
enum Of {
    /// The events of an operation.
    Operation(String),
    /// What a client is told because of what it has said.
    Reply,
    /// What comes once.
    End,
}

impl Outbox {
    /// Adds a message of the operation `id`.
    ///
    /// # Errors
    /// [`Full`]: so much waits of it already that its client does not read.
    pub(in crate::http) fn event(&self, id: &str, text: String) -> Result<(), Full> {
        let mut queue = self.queue.lock();
        let weight = text.len() + MESSAGE;
        let waiting = queue.waiting.get(id).copied().unwrap_or_default();
        if (waiting > 0 && waiting + weight > WAITING) || queue.bytes > UNREAD {
            return Err(Full);
        }
        queue.waiting.insert(id.to_owned(), waiting + weight);
        self.add(&mut queue, Of::Operation(id.to_owned()), Out::Text(text));
        Ok(())
    }

    /// Adds the last message of the operation `id`.
    pub(in crate::http) fn last(&self, id: &str, text: String) {
        let mut queue = self.queue.lock();
        queue.waiting.remove(id);
        self.add(&mut queue, Of::End, Out::Text(text));
    }

    /// Adds a message of the protocol's own.
    ///
    /// # Errors
    /// [`Full`]: the client asks for answers that it does not read.
    pub(in crate::http) fn reply(&self, out: Out) -> Result<(), Full> {
        let mut queue = self.queue.lock();
        if queue.replies >= REPLIES {
            return Err(Full);
        }
        queue.replies += 1;
        self.add(&mut queue, Of::Reply, out);
        Ok(())
    }

    /// Takes back what waits of the operation `id`: its client does not want it any more.
    pub(in crate::http) fn forget(&self, id: &str) {
        let mut queue = self.queue.lock();
        queue.waiting.remove(id);
        let is = |of: &Of| matches!(of, Of::Operation(of) if of == id);
        queue.messages.retain(|(of, _)| !is(of));
        queue.bytes = queue.messages.iter().map(|(_, out)| out.weight()).sum();
    }

    /// Whether so much waits that the client does not read: it is answered no more.
    pub(in crate::http) fn is_unread(&self) -> bool {
        self.queue.lock().bytes > UNREAD
    }

    /// Closes the connection once what waits is sent. What comes later is not.
    pub(in crate::http) fn close(&self, close: Close) {
        let mut queue = self.queue.lock();
        self.add(&mut queue, Of::End, Out::Close(close));
        queue.closing = true;
    }

    fn add(&self, queue: &mut Queue, of: Of, out: Out) {
        if !queue.closing {
            queue.bytes += out.weight();
            queue.messages.push_back((of, out));
            self.came.notify_one();
        }
    }

    /// The next message to send.
    pub(in crate::http) async fn next(&self) -> Out {
        loop {
            if let Some(out) = self.take() {
                return out;
            }
            self.came.notified().await;
        }
    }

    fn take(&self) -> Option<Out> {
        let mut queue = self.queue.lock();
        let (of, out) = queue.messages.pop_front()?;
        queue.bytes = queue.bytes.saturating_sub(out.weight());
        match (of, &out) {
            (Of::Reply, _) => queue.replies -= 1,
            (Of::Operation(id), Out::Text(text)) => {
                let waiting = queue.waiting.remove(&id).unwrap_or_default();
                let left = waiting.saturating_sub(text.len() + MESSAGE);
                if left > 0 {
                    queue.waiting.insert(id, left);
                }
            }
            _ => {}
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outbox: &Outbox) -> Option<String> {
        match outbox.take()? {
            Out::Text(text) => Some(text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_a_client_that_does_not_read_a_megabyte_waits_for_each_operation() {
        let outbox = Outbox::default();
        let large = "x".repeat(900 << 10);
        assert_eq!(outbox.event("1", large.clone()), Ok(()));
        assert_eq!(outbox.event("1", large.clone()), Err(Full));
        // The siblings have room of their own.
        assert_eq!(outbox.event("2", large.clone()), Ok(()));
        assert_eq!(outbox.event("1", "small".to_owned()), Ok(()));
        assert_eq!(text(&outbox), Some(large.clone()));
        assert_eq!(outbox.event("1", large), Ok(()));
    }

    #[test]
    fn what_has_ended_and_what_was_refused_counts_too() {
        let outbox = Outbox::default();
        let large = "x".repeat(900 << 10);
        let asked = (0..1000).take_while(|n| {
            let id = n.to_string();
            assert!(outbox.event(&id, large.clone()).is_ok() || outbox.is_unread());
            outbox.last(&id, "complete".to_owned());
            !outbox.is_unread()
        });
        assert!((30..40).contains(&asked.count()));
        assert_eq!(outbox.event("new", String::new()), Err(Full));
        while outbox.take().is_some() {}
        assert!(!outbox.is_unread());
        assert_eq!(outbox.queue.lock().bytes, 0);
        for n in 0..600_000 {
            outbox.last(&n.to_string(), "refused".to_owned());
        }
        assert!(outbox.is_unread());
    }

    #[test]
    fn one_message_is_taken_however_large() {
        let outbox = Outbox::default();
        assert_eq!(outbox.event("1", "x".repeat(10 << 20)), Ok(()));
        assert_eq!(outbox.event("1", String::new()), Err(Full));
    }

    #[test]
    fn what_waits_of_an_operation_is_taken_back_and_nothing_follows_the_close() {
        let outbox = Outbox::default();
        for id in ["1", "2", "1"] {
            assert_eq!(outbox.event(id, id.to_owned()), Ok(()));
        }
        outbox.forget("1");
        outbox.close(Close::GOING_AWAY);
        assert_eq!(outbox.event("2", "late".to_owned()), Ok(()));
        assert_eq!(text(&outbox), Some("2".to_owned()));
        assert_eq!(outbox.take(), Some(Out::Close(Close::GOING_AWAY)));
        assert_eq!(outbox.take(), None);
        assert!(outbox.queue.lock().waiting.len() <= 1);
    }

    #[test]
    fn who_pings_and_does_not_read_is_not_answered_for_ever() {
        let outbox = Outbox::default();
        let answered = (0..10_000).filter(|_| outbox.reply(Out::Ping).is_ok());
        assert_eq!(answered.count(), REPLIES);
    }
}
