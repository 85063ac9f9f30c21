"""Time of 2,000 clustered resamples of the AUC, against the loop over scikit-learn's roc_auc_score that people write. Run on an idle machine:

    OMP_NUM_THREADS=1 python scripts/bootstrap_speed.py

Writes speed.csv beside this file. The loop is timed on some resamples and scaled to 2,000. CPU seconds are those of the process, so that other work on the machine disturbs little."""
import argparse, platform, resource, time
from pathlib import Path
import numpy as np, pandas as pd
from sklearn.metrics import roc_auc_score
from melanoma_nbdev.core import write_csv
from melanoma_nbdev.evidence.auc import bootstrap
from melanoma_nbdev.evidence.oof import clusters, simulate_oof

def loop(y, p, g, n, seed=0):
    "The usual way: draw patients, gather their rows, call roc_auc_score."
    rng = np.random.default_rng(seed); o = np.argsort(g, kind='stable'); rows = np.split(o, np.flatnonzero(np.diff(g[o])) + 1); out = []
    for _ in range(n): i = np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))]); out.append(roc_auc_score(y[i], p[i]))
    return np.array(out)

def timed(f):
    w, c = time.perf_counter(), time.process_time(); r = f(); return r, time.perf_counter() - w, time.process_time() - c

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__); ap.add_argument('--loop', type=int, default=100); ap.add_argument('--big', type=int, nargs='*', default=[100_000, 1_000_000]); a = ap.parse_args(); rows = []
    for n in [33_126] + a.big:
        d = simulate_oof(round(n/15.0), seed=1).iloc[:n]; y, p, g = d['target'].to_numpy(), d['p_melanoma'].to_numpy(), clusters(d); bootstrap(y, p, g, n_boot=10)
        best = min((timed(lambda: bootstrap(y, p, g)) for _ in range(3 if n < 200_000 else 1)), key=lambda t: t[2]); r = dict(rows=len(y), positives=int(y.sum()), clusters=int(g.max() + 1), resamples=2000, wall_s=best[1], cpu_s=best[2], peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)
        if n == 33_126:
            t = min((timed(lambda: loop(y, p, g, a.loop)) for _ in range(2)), key=lambda t: t[2]); r.update(loop_resamples=a.loop, loop_wall_s_for_2000=t[1]*2000/a.loop, loop_cpu_s_for_2000=t[2]*2000/a.loop, times_faster_wall=t[1]*2000/a.loop/best[1], times_faster_cpu=t[2]*2000/a.loop/best[2], se_loop=t[0].std(), se_boot=best[0]['auc'].std())
        rows.append(r); print(r, flush=True)
    t = pd.DataFrame(rows); t['machine'] = f'{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}'; write_csv(Path(__file__).parent/'speed.csv', t.round(4)); print(t.T.to_string())
