//! Graphs of references: the way from a root to a store path, and what only one of them needs.

use std::collections::{BTreeSet, VecDeque};

/// The nodes that nobody else refers to; of a circle that nobody outside refers to, its first node.
pub(super) fn roots(of: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut referred = vec![false; of.len()];
    of.iter().flatten().for_each(|to| referred[*to] = true);
    let mut roots: Vec<usize> = (0..of.len()).filter(|node| !referred[*node]).collect();
    let mut seen = vec![false; of.len()];
    let reach = |from: usize, seen: &mut Vec<bool>| {
        let mut stack = vec![from];
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut seen[node], true) {
                stack.extend(of[node].iter().copied());
            }
        }
    };
    roots.iter().for_each(|root| reach(*root, &mut seen));
    for node in 0..of.len() {
        if !seen[node] {
            roots.push(node);
            reach(node, &mut seen);
        }
    }
    roots
}

/// For each node, the node before it on a shortest way from a root; `None` for roots.
pub(super) fn ways(of: &[BTreeSet<usize>], roots: &[usize]) -> Vec<Option<usize>> {
    let mut before = vec![None; of.len()];
    let mut seen = vec![false; of.len()];
    roots.iter().for_each(|root| seen[*root] = true);
    let mut queue: VecDeque<usize> = roots.iter().copied().collect();
    while let Some(node) = queue.pop_front() {
        for to in &of[node] {
            if !std::mem::replace(&mut seen[*to], true) {
                before[*to] = Some(node);
                queue.push_back(*to);
            }
        }
    }
    before
}

/// For each node, the sum of the sizes of what would go with it: itself, and all that is reached from roots through it only.
/// (Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm.)
pub(super) fn retained(of: &[BTreeSet<usize>], roots: &[usize], sizes: &[u64]) -> Vec<u64> {
    // Node `top` refers to all roots.
    let top = of.len();
    let all: BTreeSet<usize> = roots.iter().copied().collect();
    let next = |node: usize| of.get(node).unwrap_or(&all);
    let order = postorder(top, next);
    let mut number = vec![0; top + 1];
    order.iter().enumerate().for_each(|(at, node)| number[*node] = at);
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); top + 1];
    for node in 0..=top {
        next(node).iter().for_each(|to| before[*to].push(node));
    }
    let mut above: Vec<Option<usize>> = vec![None; top + 1];
    above[top] = Some(top);
    let mut changed = true;
    while changed {
        changed = false;
        for node in order.iter().rev().copied().filter(|node| *node != top) {
            let mut found: Option<usize> = None;
            for other in before[node].iter().copied().filter(|other| above[*other].is_some()) {
                found = Some(found.map_or(other, |found| meet(found, other, &above, &number)));
            }
            if above[node] != found {
                above[node] = found;
                changed = true;
            }
        }
    }
    let mut sums: Vec<u64> = sizes.to_vec();
    sums.push(0);
    for node in order.into_iter().filter(|node| *node != top) {
        if let Some(above) = above[node] {
            sums[above] = sums[above].saturating_add(sums[node]);
        }
    }
    sums.truncate(top);
    sums
}

/// The nearest node above both.
fn meet(one: usize, other: usize, above: &[Option<usize>], number: &[usize]) -> usize {
    let (mut one, mut other) = (one, other);
    while one != other {
        let lower = if number[one] < number[other] { &mut one } else { &mut other };
        match above[*lower] {
            Some(next) => *lower = next,
            None => return other,
        }
    }
    one
}

/// The nodes that `top` reaches, each after those that it refers to, except for circles.
fn postorder<'a>(top: usize, next: impl Fn(usize) -> &'a BTreeSet<usize>) -> Vec<usize> {
    let mut order = Vec::new();
    let mut seen = vec![false; top + 1];
    seen[top] = true;
    let mut stack = vec![(top, next(top).iter())];
    while let Some((node, rest)) = stack.last_mut() {
        match rest.next() {
            Some(to) if seen[*to] => {}
            Some(to) => {
                seen[*to] = true;
                stack.push((*to, next(*to).iter()));
            }
            None => {
                order.push(*node);
                stack.pop();
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(usize, usize)], nodes: usize) -> Vec<BTreeSet<usize>> {
        let mut of = vec![BTreeSet::new(); nodes];
        for (from, to) in edges {
            of[*from].insert(*to);
        }
        of
    }

    #[test]
    fn roots_ways_and_what_only_one_needs() {
        // 0 refers to 1 and 2, both to 3; 3 to 4. 5 and 6 are a circle by themselves, and 6 refers to 4.
        let of = graph(&[(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (5, 6), (6, 5), (6, 4)], 7);
        let roots = roots(&of);
        assert_eq!(roots, [0, 5]);
        assert_eq!(ways(&of, &roots), [None, Some(0), Some(0), Some(1), Some(6), None, Some(5)]);
        // 4 is needed by two roots, and 3 by two members of the first one.
        assert_eq!(retained(&of, &roots, &[1, 2, 4, 8, 16, 32, 64]), [15, 2, 4, 8, 16, 96, 64]);
        assert_eq!(retained(&[], &[], &[]), Vec::<u64>::new());
    }

    /// A node retains the nodes that are not reached without it.
    #[test]
    fn what_a_node_retains_is_what_is_lost_without_it() {
        let mut state = 7_u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            crate::units::usize_of((state >> 33) % crate::units::u64_of(below))
        };
        for _ in 0..200 {
            let nodes = 2 + next(12);
            let edges: Vec<_> =
                (0..next(30)).map(|_| (next(nodes), next(nodes))).filter(|(a, b)| a != b).collect();
            let (of, sizes) = (graph(&edges, nodes), vec![1_u64; nodes]);
            let roots = roots(&of);
            let reached = |without: Option<usize>| {
                let mut seen = vec![false; nodes];
                let mut stack: Vec<usize> = roots.clone();
                while let Some(node) = stack.pop() {
                    if Some(node) != without && !std::mem::replace(&mut seen[node], true) {
                        stack.extend(of[node].iter().copied());
                    }
                }
                seen.into_iter().filter(|seen| *seen).count()
            };
            let all = reached(None);
            assert_eq!(all, nodes);
            let found = retained(&of, &roots, &sizes);
            for (node, found) in found.into_iter().enumerate() {
                assert_eq!(crate::units::usize_of(found), all - reached(Some(node)), "{node} of {edges:?}");
            }
        }
    }
}
