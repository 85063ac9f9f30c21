/* What a score is worth, as `bedside.risk` and `bedside.answer` say it. Thresholds, sentences and the card's curve come
 * from Python (`site.reading_facts`); here is what depends on the score and on what the reader chose. */

const clip = (x, low, high) => Math.min(high, Math.max(low, x));

/* A number with so many digits; a half goes to the even digit, as in Python. */
export function fixed(x, digits) {
  const scaled = x*10**digits, low = Math.floor(scaled);
  return scaled - low === .5 ? ((low + low%2)/10**digits).toFixed(digits) : x.toFixed(digits);
}

/* Python's '%.1f' % x and '%g' % x, as far as the templates ask for them. */
export function printf(x, pattern) {
  const digits = /^%\.(\d+)f$/.exec(pattern);
  return digits ? fixed(x, Number(digits[1])) : String(Number(x.toPrecision(6)));
}

/* The table of sentences and the language of the page; of Python's `texts`. */
const spoken = {texts: {}, language: 'en'};
export const speak = (texts, language) => { Object.assign(spoken, {texts, language}); };

/* `texts.text` */
export function say(key, ...values) {
  return spoken.texts[key][spoken.language].replace(/\{(\d)\}/g, (_, place) => values[place]);
}

/* `texts._known_reasons`: the pattern of each English reason or remark, and its key. */
function knownReasons() {
  const keys = Object.keys(spoken.texts).filter(key => /^(reason|remark)\./.test(key));
  const escaped = key => spoken.texts[key].en.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const shape = key => escaped(key).replace(/\\\{\d\\\}/g, '(.+?)').replace('…', '.*');
  return keys.map(key => [new RegExp(`^${shape(key)}$`, 's'), key]);
}

/* `texts.reason`: what was found in English, in the language of the page. */
export function reason(sentence, other = 'reason.other') {
  if (spoken.language === 'en') return sentence;
  spoken.reasons ??= knownReasons();
  for (const [pattern, key] of spoken.reasons) {
    const found = pattern.exec(sentence);
    if (found) return say(key, ...found.slice(1));
  }
  return say(other);
}

const comma = written => (spoken.language === 'en' ? written : written.replace('.', ','));

/* `texts.decimals`, `thousands`, `with_percent` */
export const decimals = (x, digits) => comma(fixed(x, digits));
const GROUPED_BY = {en: ',', fr: '\u202f', de: '.', es: '\u00a0'};
export const thousands = n => n.toLocaleString('en-US').replaceAll(',', GROUPED_BY[spoken.language]);
const withPercent = written => written + (spoken.language === 'en' ? '%' : '\u00a0%');

/* `risk.percent` */
export function percent(share, unit = '%') {
  const written = decimals(100*share, share < .0995 || share > .9005 ? 1 : 0);
  return unit ? withPercent(written) : written;
}

/* `risk.whole_percent` */
export const whole = share => withPercent(comma(printf(100*share, '%g')));

/* `risk.risk_in_words` */
export function headline(risk) {
  if (risk < .0005) return say('under', percent(.001));
  return risk > .9995 ? say('over', percent(.999)) : percent(risk);
}

/* `risk.risk_in_short` */
export function short(risk, unit = '%') {
  if (risk < .0005) return `<${percent(.001, unit)}`;
  return risk > .9995 ? `>${percent(.999, unit)}` : percent(risk, unit);
}

/* `risk.one_in` */
export function oneIn(risk) {
  if (risk < .001) return say('one_in.few');
  if (fixed(10*risk, 0) === '10') return say('one_in.most');
  if (risk > .4) return say('one_in.ten', fixed(10*risk, 0));
  const of = Number(fixed(1/risk, 0));
  return say('one_in', thousands(of < 100 ? of : 10*Math.floor(of/10 + .5)));
}

/* Log-odds, finite at 0 and 1. */
function logOdds(share) {
  const inside = clip(share, 1e-6, 1 - 1e-6);
  return Math.log(inside/(1 - inside));
}

/* `numpy.interp` */
export function interp(x, places, values) {
  const last = places.length - 1;
  if (x <= places[0]) return values[0];
  if (x >= places[last]) return values[last];
  const right = places.findIndex(place => place > x), left = right - 1;
  const slope = (values[right] - values[left])/(places[right] - places[left]);
  return slope*(x - places[left]) + values[left];
}

/* `evidence.recalibration.prior_shift` for one risk. */
function priorShift(risk, old, now) {
  const melanoma = risk*now/old, benign = (1 - risk)*(1 - now)/(1 - old);
  return melanoma/(melanoma + benign);
}

/* One of `risk.cohorts`; nothing for another place. */
const cohortAt = ({cohorts}, place) => (typeof place === 'string' ? cohorts[place] : undefined);

/* The share of what somebody counted. */
export const shareOf = counted => counted.n_melanoma/counted.n;

/* `risk.share_at`: the share of melanomas at a place. */
function shareAt(facts, place) {
  if (typeof place !== 'string') return place ?? facts.share;
  return cohortAt(facts, place)?.prevalence ?? shareOf(facts.published[place]);
}

/* `risk.risk_of`: value, low and high; null where the card does not know. */
export function riskOf(facts, score, place = null) {
  const {curve, share} = cohortAt(facts, place) ?? facts;
  if (!curve) return null;
  const places = curve.score.map(logOdds);
  const at = name => interp(logOdds(score), places, curve[name]);
  const moved = risk => (place === null ? risk : priorShift(risk, share, shareAt(facts, place)));
  return {value: moved(at('value')), low: moved(at('low')), high: moved(at('high'))};
}

/* `risk.cohort_call`, or one of the points of all images. */
const atPoint = (rows, sensitivity) => (rows ?? []).find(one => one.sensitivity === sensitivity);

/* What was found and called at a threshold, in a sentence. */
const ratesInWords = (key, {found, spared}, ...first) =>
  say(key, ...first, percent(found.value), percent(found.lo, ''), percent(found.hi), percent(1 - spared));

/* `risk.called_per_melanoma` */
function calledPerMelanoma({found, spared}, share) {
  const melanomas = share*found.value;
  return (melanomas + (1 - share)*(1 - spared))/melanomas;
}

/* `risk.point_words`: what was measured at an operating point, and how many lesions are called there. */
export function pointWords(facts, {sensitivity, prevalence}) {
  const point = atPoint(facts.points, sensitivity), cohort = cohortAt(facts, prevalence);
  if (!point) return '';
  const own = atPoint(cohort?.calls, sensitivity), share = shareAt(facts, prevalence);
  const said = [ratesInWords('measured', point)];
  if (own) said.push(ratesInWords('measured.cohort', own, cohort.title));
  if (share) {
    const called = calledPerMelanoma(own ?? point, share);
    said.push(say('called', called < 10 ? decimals(called, 1) : thousands(Number(fixed(called, 0)))));
  }
  return said.join(' ');
}

/* `risk.decide`: what follows from a score at an operating point. */
export function decide(facts, score, {sensitivity, prevalence}) {
  const point = atPoint(facts.points, sensitivity);
  const level = point ? point.levels.findLast(step => score >= step.start).level : 'unknown';
  const words = say(`level.${level}`);
  if (!point) return {level, words, sentence: say('no_threshold')};
  const side = level === 'above' ? 'lies.above' : 'lies.under';
  const rates = atPoint(cohortAt(facts, prevalence)?.calls, sensitivity) ?? point;
  const said = say(side, whole(sensitivity), percent(1 - rates.found.value));
  return {level, words, sentence: `${said} ${pointWords(facts, {sensitivity, prevalence})}`};
}

/* `risk.standing`: where a score stands among the images of the study. */
export function standing({edges, below}, score) {
  if (edges.length < 2) return '';
  const places = edges.map(logOdds), at = name => percent(interp(logOdds(score), places, below[name]));
  return say('standing', at('benign'), at('melanoma'));
}

/* `risk.elsewhere_sentence` */
export function elsewhere({points, elsewhere: usual}, sensitivity) {
  const one = points.find(point => point.sensitivity === sensitivity)?.elsewhere ?? usual;
  if (!one) return say('elsewhere.none');
  const said = say(one.key, thousands(one.n), one.source, decimals(one.auc, 2),
    percent(1 - one.sensitivity), thousands(one.n_melanoma), whole(one.at));
  if (sensitivity === one.at) return said;
  return `${said} ${say(sensitivity < one.at ? 'elsewhere.more' : 'elsewhere.fewer')}`;
}

/* `risk.unsure_sentence` */
export function unsureMeans({kept, released}, doubts) {
  if (!doubts.length) return '';
  const said = doubts.map(key => say(key, whole(kept))).join(' ');
  if (!released) return said;
  return `${said} ${say('unsure.worst', released.source, thousands(released.n), thousands(released.of))}`;
}

/* `risk.density_of`: the outlines of the study's scores, where this one lies, and the threshold. */
export function densityOf({density, points}, score, sensitivity) {
  if (!density) return null;
  const {low, high, width} = density, point = atPoint(points, sensitivity);
  const place = at => width*clip((logOdds(at) - low)/(high - low), 0, 1);
  return {...density, here: place(score), edge: point ? place(point.threshold) : null};
}

/* `answer.evidence_map`: what each spot says for melanoma, measured from an average lesion of the study. */
export function evidenceMap(facts, card, {p_melanoma: score, cam}) {
  const risk = riskOf(facts, score), known = risk ? risk.value : score;
  const evidence = logOdds(known) - logOdds(facts.share ?? .5);
  const spots = Float64Array.from(cam, value => value/card.calibration.temperature);
  const mean = spots.reduce((sum, value) => sum + value, 0)/spots.length;
  return spots.map(value => value - mean + evidence);
}

/* Where a risk stands on the bar, in percent of its width: by log-odds, from 0.1% to 99.9%. */
const barPlace = risk => 50*clip(logOdds(risk)/logOdds(.999) + 1, 0, 2);

function placesOf(risk, edge) {
  const [value, low, high] = [risk.value, risk.low, risk.high].map(barPlace);
  return {value, low, high, edge: edge ? barPlace(edge.value) : null};
}

/* `risk.doubt`: the key of its sentence. */
function doubt(word, level) {
  if (word === 'not sure') return 'unsure.means';
  return word === 'benign' && level === 'above' ? 'unsure.low' : null;
}

/* `answer.reading`: a score at an operating point and a prevalence. */
export function reading(facts, answer, {sensitivity, prevalence}) {
  const score = answer.p_melanoma, risk = riskOf(facts, score, prevalence);
  const point = atPoint(facts.points, sensitivity);
  const edge = point ? riskOf(facts, point.threshold, prevalence) : null;
  const decision = decide(facts, score, {sensitivity, prevalence});
  return {risk, decision, unsure: doubt(answer.conformal, decision.level),
    place: risk ? placesOf(risk, edge) : null};
}

/* `answer._where`: the share of melanomas where a risk holds, and whose counts it is from. */
function where(facts, place) {
  const cohort = cohortAt(facts, place)?.title ?? null;
  return {share: shareAt(facts, place), in_study: place === null, cohort,
    published: typeof place === 'string' && !cohort ? place : null};
}

/* `risk.spread_words`: how far the sources lie apart at one share. */
function spreadWords({spread, ...facts}, place) {
  if (place === null || cohortAt(facts, place) || spread.length < 2) return '';
  return say('moved.spread', decimals(Math.min(...spread), 2), decimals(Math.max(...spread), 2));
}

/* `answer.share_from`: where a share was counted, and how the risks came to it. */
export function shareFrom(facts, place) {
  if (place === null) return say('from.study');
  const cohort = cohortAt(facts, place), counted = facts.published[place];
  if (cohort) return say('from.cohort', cohort.title);
  const moved = `${say('from.moved')} ${spreadWords(facts, place)}`.trim();
  if (!counted) return `${say('from.own')}. ${moved}`;
  const told = say(`from.${place}`, thousands(counted.n_melanoma), thousands(counted.n), counted.source);
  return `${told}. ${moved}`;
}

/* `answer._share_source`: the same as the table says it. */
function shareSource(facts, place) {
  if (place === null) return 'study';
  if (typeof place !== 'string') return 'own';
  if (cohortAt(facts, place)) return place;
  const {n_melanoma, n, unit, source} = facts.published[place];
  return `${place}: ${n_melanoma} of ${n}, counted per ${unit}, ${source}`;
}

/* What the template of a card asks for. */
export function cardValues(facts, lesion, number, chosen) {
  const {answer} = lesion;
  const ranked = Object.entries(answer.probs).sort((a, b) => b[1] - a[1]);
  const score = answer.p_melanoma;
  const read = reading(facts, answer, chosen);
  return {lesion, number, ...where(facts, chosen.prevalence), spread: spreadWords(facts, chosen.prevalence),
    standing: standing(facts, score), density: densityOf(facts, score, chosen.sensitivity),
    elsewhere: elsewhere(facts, chosen.sensitivity),
    unsure_means: unsureMeans(facts, read.unsure ? [read.unsure] : []), diagnoses: ranked, ...read};
}

/* `answer.in_order`: those to look at first in front, those without an answer last. */
export function inOrder(lesions) {
  const place = ([, lesion]) => lesion.answer.p_melanoma ?? -1;
  return lesions.map((lesion, i) => [i + 1, lesion]).sort((a, b) => place(b) - place(a));
}

/* A row of tiles or of the report: a lesion and, where there is an answer, its reading. */
export function rowsOf(facts, lesions, chosen) {
  return inOrder(lesions).map(([number, lesion]) => ({number, lesion,
    ...(lesion.answer.p_melanoma === null ? {} : reading(facts, lesion.answer, chosen))}));
}

/* The day where the reader is, as 2026-11-27. */
function today() {
  const now = new Date();
  return new Date(now - 60_000*now.getTimezoneOffset()).toISOString().slice(0, 10);
}

/* `answer.provenance` */
export function provenance(facts, card, {sensitivity, prevalence}) {
  const point = facts.points.find(one => one.sensitivity === sensitivity), share = shareAt(facts, prevalence);
  const rounded = (x, digits) => (x ? Number(fixed(x, digits)) : x);
  return {model: card.name, version: String(card.version ?? ''), sha256: card.sha256,
    date: today(), prevalence_percent: share && rounded(100*share, 2),
    prevalence_from: shareSource(facts, prevalence),
    counted_on: cohortAt(facts, prevalence) ? prevalence : 'study',
    sensitivity_percent: 100*sensitivity, threshold: rounded(point?.threshold ?? null, 4)};
}

const cell = value => {
  const words = String(value ?? '');
  const safe = typeof value === 'string' && /^\s*[=+\-@]/.test(words) ? `'${words}` : words;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

/* `answer.table_row` */
function tableRow(facts, {name, note, site, answer}, chosen) {
  const empty = {risk_percent: null, low_percent: null, high_percent: null, decision: '', not_sure: '', score: null};
  const row = {file: name, site, ...empty, error: answer.error ?? ''};
  if (answer.p_melanoma !== null) {
    const {risk, decision, unsure} = reading(facts, answer, chosen);
    const parts = risk ? [risk.value, risk.low, risk.high].map(part => Number(fixed(100*part, 2))) : [];
    ['risk_percent', 'low_percent', 'high_percent'].forEach((key, i) => { row[key] = parts[i] ?? null; });
    Object.assign(row, {decision: decision.level, not_sure: unsure ? 'yes' : 'no',
      score: Number(fixed(answer.p_melanoma, 4))});
  }
  return {...row, warning: answer.warnings.join('; '), note};
}

/* `answer.one_line` */
export function oneLine(typed) {
  const words = (typed ?? '').replace(/[\p{C}\p{Z}]+/gu, ' ').trim();
  return [...words].slice(0, 80).join('');
}

/* `answer.patient_words` */
export function patientWords(said) {
  return Object.fromEntries(['patient', 'age', 'sex'].map(name => [name, oneLine(said[name])]));
}

/* `answer.table_csv` */
export function tableCsv(facts, card, lesions, chosen, said = {}) {
  const same = {...provenance(facts, card, chosen), ...patientWords(said)};
  const rows = lesions.map(lesion => ({...tableRow(facts, lesion, chosen), ...same}));
  return [Object.keys(rows[0]), ...rows.map(Object.values)].map(row => row.map(cell).join(',')).join('\n') + '\n';
}

/* MiniJinja with the templates of the Voila page and the filters that they ask for. */
export function prepare(env, templates) {
  Object.assign(env, {trimBlocks: true, lstripBlocks: true, undefinedBehavior: 'strict'});
  env.enablePyCompat();
  const filters = {say, percent, whole, headline, short, one_in: oneIn, decimals, printf, thousands, reason};
  for (const [name, filter] of Object.entries(filters)) env.addFilter(name, filter);
  for (const [name, source] of Object.entries(templates)) env.addTemplate(name, source);
  return env;
}
