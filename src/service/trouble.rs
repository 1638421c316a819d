//! Trouble that lasts is told of once, not at every attempt.

/// Wordings that are remembered; more than one thing in a row rarely fails in more ways.
const WORDINGS: usize = 16;

/// One thing that is tried again and again, and what is wrong with it now.
///
/// Each wording is news once for as long as the trouble lasts, so that two that alternate, as
/// those of two endpoints do, don't fill the log. Several things have one of these each: what is
/// wrong with one must not make the other's trouble news again.
#[derive(Debug, Clone, Default)]
pub struct Trouble {
    current: Option<String>,
    told: Vec<String>,
}

impl Trouble {
    /// It failed. Says whether that is worth a line.
    pub fn failed(&mut self, why: &str) -> bool {
        self.current = Some(why.to_owned());
        if self.told.iter().any(|told| told == why) {
            return false;
        }
        if self.told.len() == WORDINGS {
            self.told.remove(0);
        }
        self.told.push(why.to_owned());
        true
    }

    /// It worked. Says whether there was trouble before.
    pub fn is_over(&mut self) -> bool {
        self.told.clear();
        self.current.take().is_some()
    }

    /// Nothing is wrong for the moment, and whether it works will be seen. What it was is no news if
    /// it comes back.
    pub fn rests(&mut self) {
        self.current = None;
    }

    /// What is wrong now.
    pub fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_news_once_until_it_is_over() {
        let mut trouble = Trouble::default();
        assert!(trouble.failed("refused"));
        assert!(!trouble.failed("refused"));
        assert!(trouble.failed("timed out"));
        trouble.rests();
        assert_eq!(trouble.current(), None);
        assert!(!trouble.failed("refused"), "it alternates");
        assert_eq!(trouble.current(), Some("refused"));
        assert!(trouble.is_over());
        assert_eq!(trouble.current(), None);
        assert!(!trouble.is_over());
        assert!(trouble.failed("refused"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut trouble = Trouble::default();
        for n in 0..1000 {
            assert!(trouble.failed(&n.to_string()));
        }
        assert_eq!(trouble.told.len(), WORDINGS);
    }
}
