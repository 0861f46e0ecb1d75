//! Words that the messages of several doors share.

/// `A, B and 3 more`: at most `most` of the items, and how many there are beside.
pub fn listed(items: impl IntoIterator<Item = String>, most: usize) -> String {
    let all: Vec<String> = items.into_iter().collect();
    let more = all.len().saturating_sub(most);
    let mut words = all[..all.len() - more].join(", ");
    if more > 0 {
        words += &format!(" and {more} more");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["A".into(), "B".into()], 24), "A, B");
        let many = listed((0..30).map(|n| n.to_string()), 24);
        assert!(many.ends_with("23 and 6 more"), "{many}");
    }
}
