//! The SQL of docs/RECORD.md runs, and says what the document says it does.

use elek::record::{Journal, Ring};
use elek::station::event::{Entry, Fate, Reason, Verdict};
use elek::units::{BeltPosition, Instant, LaneId, Micros, RecipeId};

#[test]
fn every_query_of_the_document_runs_on_a_real_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ring, resume) = Ring::open(dir.path()).unwrap();
    let (part, at) = (resume.next_part, Instant::from_micros(5));
    let (lane, position, recipe) = (LaneId(0), BeltPosition::ZERO, RecipeId(0));
    ring.append(&Entry::Seen {
        part,
        lane,
        at,
        position,
        recipe,
    })
    .unwrap();
    let (verdict, margin) = (
        Verdict::Reject(Reason {
            rule: 1,
            measured: 0.93,
        }),
        Micros::from_millis(40),
    );
    ring.append(&Entry::Judged {
        part,
        verdict,
        will_reject: true,
        at,
        late: false,
        margin,
    })
    .unwrap();
    ring.append(&Entry::Ended {
        part,
        fate: Fate::Confirmed,
        at,
    })
    .unwrap();
    drop(ring);
    // The next start brings the journal up to date; the run before it has the part.
    drop(Ring::open(dir.path()).unwrap());
    let db = rusqlite::Connection::open(Journal::path(dir.path())).unwrap();
    db.execute(
        "INSERT INTO recipes VALUES (1, 0, 'cap', '[\"dent >= 0.5\", \"scratch >= 0.6\"]')",
        [],
    )
    .unwrap();

    let document = include_str!("../docs/RECORD.md");
    let queries: Vec<&str> = document
        .split("```sql\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(queries.len() >= 5);
    for query in &queries {
        let mut statement = db
            .prepare(query)
            .unwrap_or_else(|error| panic!("{error} in {query}"));
        let mut rows = statement.query([]).unwrap();
        while rows
            .next()
            .unwrap_or_else(|error| panic!("{error} in {query}"))
            .is_some()
        {}
    }
    let row: (i64, String, String, f64) = db
        .query_row(queries[0], [], |row| {
            Ok((row.get(0)?, row.get(2)?, row.get(4)?, row.get(5)?))
        })
        .unwrap();
    assert_eq!(row, (1, "cap".into(), "scratch >= 0.6".into(), 0.93));
    let account: (i64, i64, i64) = db
        .query_row(queries[1], [], |row| Ok((row.get(2)?, row.get(3)?, row.get(4)?)))
        .unwrap();
    assert_eq!(account, (1, 0, 1), "seen, passed, rejected");
}
