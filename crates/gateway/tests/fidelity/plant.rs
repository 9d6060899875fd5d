//! Unknown members, planted at every object level of a message, from a seed.

use super::tree::{Member, Tree};

/// Keys that no revision knows; some look like ones that it does.
const KEYS: [&str; 12] = [
    "\"x-planted\"",
    "\"Name\"",
    "\"name \"",
    "\"_Meta\"",
    "\"\"",
    "\"__proto__\"",
    "\"\\ud83d\\ude00\"",
    "\"😀\"",
    "\"vendor.example\\/key\"",
    "\"\\u0078-escaped\"",
    "\"jsonrpc\\u0000\"",
    "\"ResultType\"",
];

/// Values whose spelling is easily lost.
const VALUES: [&str; 14] = [
    "1.10",
    "12345678901234567890123",
    "-0.0",
    "1E400",
    "1e-7",
    "\"\\u0041\\/\\ud83d\\ude00😀\\b\"",
    "\"\\ud800\"",
    "null",
    "true",
    "{ }",
    "[ 1.0 ,\t{\"id\":7,\"method\":\"x\",\"result\":null} ]",
    "{\"a\":1,\"a\":2}",
    "{\"jsonrpc\":\"1.0\",\"_meta\":{\"progressToken\":\"no\"}}",
    "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
];

/// Random numbers that a seed repeats (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// Less than `below`.
    pub(crate) fn pick(&mut self, below: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(below).unwrap()).unwrap()
    }

    pub(crate) fn of<'t>(&mut self, choice: &[&'t str]) -> &'t str {
        choice[self.pick(choice.len())]
    }
}

/// Puts one to two unknown members into every object at and below `tree`, in front, between or behind. Returns how many.
pub(crate) fn plant(tree: &mut Tree, seed: &mut Seeded) -> usize {
    match tree {
        Tree::Plain(_) => 0,
        Tree::Array { items, .. } => items.iter_mut().map(|(_, item, _)| plant(item, seed)).sum(),
        Tree::Object { members, .. } => {
            let mut planted: usize = members
                .iter_mut()
                .map(|member| plant(&mut member.value, seed))
                .sum();
            let mut keys: Vec<&str> = Vec::new();
            for _ in 0..=seed.pick(2) {
                let key = seed.of(&KEYS);
                if keys.contains(&key) {
                    continue;
                }
                keys.push(key);
                let mut member = Member::new("", Tree::read(seed.of(&VALUES)));
                member.key = key.to_owned();
                member.lead = seed.of(&["", "", " ", "\t "]).to_owned();
                member.colon = seed.of(&[":", ":", " : "]).to_owned();
                member.trail = seed.of(&["", "", " "]).to_owned();
                members.insert(seed.pick(members.len() + 1), member);
                planted += 1;
            }
            planted
        }
    }
}

/// Another order of the same members of the outermost object.
pub(crate) fn shuffle(tree: &mut Tree, seed: &mut Seeded) {
    if let Tree::Object { members, .. } = tree {
        for at in (1..members.len()).rev() {
            members.swap(at, seed.pick(at + 1));
        }
    }
}
