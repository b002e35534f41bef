//! What was made for a state by those who ask it, kept with it for the next question.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Things by number, each made at most once. Their types are not named here, because they are made from the state that
/// keeps them.
#[derive(Default)]
pub(super) struct Kept(Mutex<BTreeMap<u64, Arc<dyn Any + Send + Sync>>>);

impl fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Kept")
    }
}

impl Kept {
    /// The thing with this number, made if it is not there yet (or is of another type). Others wait meanwhile: they would
    /// make the same.
    pub(super) fn get<T: Any + Send + Sync, E>(
        &self,
        number: u64,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.get(&number).map(Arc::clone).and_then(|known| known.downcast::<T>().ok());
        if let Some(known) = known {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        kept.insert(number, Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_made_once_and_a_failure_is_not_kept() {
        let kept = Kept::default();
        assert_eq!(kept.get(1, || Err::<u32, _>("no")).unwrap_err(), "no");
        assert_eq!(*kept.get(1, || Ok::<_, &str>(7_u32)).unwrap(), 7);
        assert_eq!(*kept.get(1, || Err::<u32, _>("again")).unwrap(), 7);
        assert_eq!(*kept.get(1, || Ok::<_, &str>("another type")).unwrap(), "another type");
    }
}
