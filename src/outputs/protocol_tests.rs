use super::*;
use proptest::prelude::*;

fn requests() -> Vec<Request> {
    let line = |max_on| {
        Request::Line(LineInfo {
            output: OutputId(3),
            chip: ArrayString::from("sim").unwrap(),
            name: match max_on {
                None => LineLabel::Name(ArrayString::from("a name of thirty-two bytes, full").unwrap()),
                Some(_) => LineLabel::Offset(u32::MAX),
            },
            active_low: true,
            spec: LineSpec {
                safe_on: true,
                max_on,
            },
        })
    };
    let plan = PulsePlan {
        pulse: PulseId(u64::MAX),
        output: OutputId(15),
        on_at: Instant::from_micros(-1),
        off_at: Instant::MAX,
    };
    vec![
        Request::Hello { lines: 16 },
        line(None),
        line(Some(Micros::new(1))),
        Request::Order(Order::Fire(plan)),
        Request::Order(Order::Cancel(PulseId(9))),
        Request::Order(Order::Set {
            output: OutputId(1),
            active: true,
        }),
        Request::Order(Order::Heartbeat),
        Request::Order(Order::Bye),
    ]
}

fn reports() -> Vec<Report> {
    let (pulse, planned, actual) = (PulseId(5), Instant::from_micros(7), Instant::from_micros(8));
    let mut all = vec![
        Report::Ready {
            realtime: true,
            locked: false,
        },
        Report::Ready {
            realtime: false,
            locked: true,
        },
        Report::On {
            pulse,
            planned,
            actual,
        },
        Report::Off {
            pulse,
            planned,
            actual,
        },
        Report::Alive,
    ];
    all.extend(REFUSALS.map(|refusal| Report::Refused { pulse, refusal }));
    all.extend(CAUSES.map(|cause| Report::Safe { cause }));
    all
}

#[test]
fn every_message_survives_the_wire() {
    // A new variant has to be added to its list; this stops compiling until it is looked at.
    let listed = |refusal| match refusal {
        PulseRefusal::TooLate | PulseRefusal::MaxOnReached | PulseRefusal::Full | PulseRefusal::Nonsense => {
            REFUSALS.contains(&refusal)
        }
    };
    assert!(REFUSALS.into_iter().all(listed));
    let listed = |cause| match cause {
        SafeCause::Start
        | SafeCause::Closed
        | SafeCause::Bye
        | SafeCause::Hung
        | SafeCause::Nonsense
        | SafeCause::LineFault
        | SafeCause::Ended => CAUSES.contains(&cause),
    };
    assert!(CAUSES.into_iter().all(listed));
    let (mut sender, mut receiver) = (Sender::default(), Receiver::default());
    for request in requests() {
        assert_eq!(receiver.request(&sender.request(request)), Ok(request));
    }
    let (mut sender, mut receiver) = (Sender::default(), Receiver::default());
    for report in reports() {
        assert_eq!(receiver.report(&sender.report(report)), Ok(report));
    }
}

#[test]
fn each_kind_of_nonsense_is_told_apart() {
    let good = Sender::default().request(Request::Order(Order::Heartbeat));
    let read = |packet: &[u8]| Receiver::default().request(packet);
    assert_eq!(read(&good[..127]), Err(Nonsense::Length(127)));
    assert_eq!(read(&[]), Err(Nonsense::Length(0)));
    assert_eq!(read(&[0; MESSAGE_BYTES]), Err(Nonsense::Magic));
    let changed = |at: usize, reseal: bool| {
        let mut packet = good;
        packet[at] ^= 0x40;
        if reseal {
            let checksum = crc32fast::hash(&packet[..CHECKSUM]);
            packet[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        }
        read(&packet)
    };
    assert_eq!(changed(4, true), Err(Nonsense::Version(VERSION ^ 0x40)));
    assert_eq!(changed(6, true), Err(Nonsense::Kind(6 ^ 0x40)));
    assert_eq!(
        changed(8, true),
        Err(Nonsense::Sequence {
            expected: 0,
            found: 0x40
        })
    );
    assert_eq!(
        changed(50, true),
        Err(Nonsense::Content("what follows the content"))
    );
    assert_eq!(changed(50, false), Err(Nonsense::Checksum));
    // A report is no request.
    assert_eq!(
        read(&Sender::default().report(Report::Alive)),
        Err(Nonsense::Kind(106))
    );
    // The same packet again is not the next one.
    let mut receiver = Receiver::default();
    assert!(receiver.request(&good).is_ok());
    assert_eq!(
        receiver.request(&good),
        Err(Nonsense::Sequence {
            expected: 1,
            found: 0
        })
    );
}

proptest! {
    #[test]
    fn no_single_changed_bit_goes_unnoticed(which in 0..8usize, bit in 0..MESSAGE_BYTES * 8) {
        let mut packet = Sender::default().request(requests()[which]);
        packet[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Receiver::default().request(&packet).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(kind in 0..120u16, content in prop::collection::vec(any::<u8>(), CHECKSUM - CONTENT)) {
        let bytes = content.try_into().unwrap();
        let packet = Sender::default().seal(kind, &Content { bytes, used: 0 });
        let _ = Receiver::default().request(&packet);
        let _ = Receiver::default().report(&packet);
    }
}
