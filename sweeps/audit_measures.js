// The audit's figures in the browser, from two dot products a frame: plain functions that know nothing of the page.
// They are those of lightning_modules/rewards.py, fidelity.py and reward_audit.py; a test compares the two.
"use strict";

/** Goal-baseline rewards of frames; parts is one {sg, sb, gg, bb, gb} for each CLIP, sb empty without a baseline. */
function rewardsOf(parts, alpha) {
  const kept = (1 - alpha) ** 2;
  const each = parts.map(({ sg, sb, gg, bb, gb }) => {
    const length = Math.sqrt(gg + bb - 2 * gb);
    return Float64Array.from(sg, (dot, i) => {
      const along = alpha > 0 ? (dot - sb[i] - gg + gb) / length : 0;
      return 1 - 0.5 * (kept * (1 + gg - 2 * dot) + (1 - kept) * along ** 2);
    });
  });
  if (each.length === 1) return each[0];
  const scaled = each.map(standardised);
  return each[0].map((_, i) => scaled.reduce((sum, part) => sum + part[i], 0) / scaled.length);
}

function standardised(values) {
  const middle = mean(values), width = deviation(values);
  return values.map((value) => (value - middle) / (width > 1e-8 ? width : 1));
}

function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

function deviation(values) {
  const middle = mean(values);
  let sum = 0;
  for (const value of values) sum += (value - middle) ** 2;
  return Math.sqrt(sum / values.length);
}

/** Linear correlation, 0 where one side is constant. */
function pearson(one, two) {
  const [a, b] = [mean(one), mean(two)];
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < one.length; i++) {
    const [x, y] = [one[i] - a, two[i] - b];
    ab += x * y; aa += x * x; bb += y * y;
  }
  const constant = one.every((value) => value === one[0]) || two.every((value) => value === two[0]);
  return constant || aa === 0 || bb === 0 ? 0 : Math.min(1, Math.max(-1, ab / Math.sqrt(aa * bb)));
}

/** Ranks from 1, ties sharing their mean rank. */
function ranksOf(values) {
  const order = Uint32Array.from(values, (_, i) => i).sort((a, b) => values[a] - values[b]);
  const ranks = new Float64Array(values.length);
  for (let start = 0; start < order.length;) {
    let end = start + 1;
    while (end < order.length && values[order[end]] === values[order[start]]) end++;
    for (let i = start; i < end; i++) ranks[order[i]] = (start + end + 1) / 2;
    start = end;
  }
  return ranks;
}

/** Mean over episodes of a correlation inside each; episodes whose truth is constant are left out. */
function withinEpisodes(correlation, reward, truth, episodes) {
  const scores = [];
  for (const frames of episodes) {
    const theirs = frames.map((i) => truth[i]);
    if (theirs.some((value) => value !== theirs[0])) scores.push(correlation(frames.map((i) => reward[i]), theirs));
  }
  return scores.length ? mean(scores) : 0;
}

function spearman(one, two) {
  return pearson(ranksOf(one), ranksOf(two));
}

/** Probability that a success has the higher reward, ties counting half; null without both kinds. */
function auroc(ranks, success) {
  let won = 0, count = 0;
  for (let i = 0; i < ranks.length; i++) if (success[i]) { won += ranks[i]; count++; }
  const others = ranks.length - count;
  return count && others ? (won - count * (count + 1) / 2) / (count * others) : null;
}

/** Frame numbers from the highest reward to the lowest; of equal rewards the later frame first, as in Python. */
function fromHighest(reward) {
  return Uint32Array.from(reward, (_, i) => i).sort((a, b) => reward[b] - reward[a] || b - a);
}

/** Every figure of one reward; success is null where the task knows none. */
function figuresOf(reward, { truth, truthRanks, success, episodes, top }) {
  const ranks = ranksOf(reward), linear = pearson(reward, truth), order = fromHighest(reward);
  return {
    mean: mean(reward),
    std: deviation(reward),
    pearson: linear,
    pearsonWithin: withinEpisodes(pearson, reward, truth, episodes),
    spearman: pearson(ranks, truthRanks),
    spearmanWithin: withinEpisodes(spearman, reward, truth, episodes),
    epic: Math.sqrt((1 - linear) / 2),
    auroc: success ? auroc(ranks, success) : null,
    topSuccesses: success ? order.slice(0, top).reduce((sum, i) => sum + (success[i] ? 1 : 0), 0) : null,
    order,
  };
}
