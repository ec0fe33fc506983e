/* Kernels: detectors' recursions over one series after the other, where each value depends on all before it.
 *
 * Each does what the Python class that calls it does, in the same order of floating-point operations, so that
 * the results are the same to the bit. All state is in the caller's arrays. Values need not be finite for the
 * memory's sake: what is not a number leads to wrong numbers, never to a wrong place.
 */
#include "core.h"

/* As in stats/arrays.py and stats/robust_window.py. */
#define LARGEST 1e150
#define ULPS 1e-14
#define SMALLEST 1e-150
#define IQR 1.349
#define WIDE 1.2
#define FLAT 0.1
#define JUMP 0.5
#define MOST 100.0
/* As in stats/residuals.py and stats/rolling_moments.py. */
#define WIDE_SCALE 0.1
#define RESOLUTION 1e-12

static inline double clipped(double value)
{
    return value > LARGEST ? LARGEST : value < -LARGEST ? -LARGEST : value;
}

/* A value enters n sorted ones, behind those that are the same (insort). */
static inline void insert(double *ordered, Py_ssize_t n, double value)
{
    for (; n > 0 && ordered[n - 1] > value; n--)
        ordered[n] = ordered[n - 1];
    ordered[n] = value;
}

/* The oldest of n sorted values leaves, and another enters. Both are searched for at once, without a jump that
 * a processor could guess wrong: that is most of the time that a value takes. */
static inline void exchange(double *ordered, Py_ssize_t n, double oldest, double value)
{
    const double *first = ordered, *second = ordered;
    for (Py_ssize_t half, rest = n; rest > 1; rest -= half) {
        half = rest / 2;
        first += half & -(Py_ssize_t)(first[half - 1] < oldest);
        second += half & -(Py_ssize_t)(second[half - 1] <= value);
    }
    Py_ssize_t from = first - ordered + (*first < oldest), to = second - ordered + (*second <= value);
    from -= from == n; /* where it is not a number */
    if (from < to) {
        to--;
        memmove(ordered + from, ordered + from + 1, (size_t)(to - from) * sizeof(double));
    } else {
        memmove(ordered + to + 1, ordered + to, (size_t)(from - to) * sizeof(double));
    }
    ordered[to] = value;
}

typedef struct {
    double winsorise, least, wide;
    Py_ssize_t relative;
} Rule;

/* RobustWindow._judge: z of a value, and what of it enters the window of `size` sorted values. */
static inline double judge(const Rule *rule, double value, const double *ordered, Py_ssize_t size, double median,
                           double *entry)
{
    const double clip = rule->winsorise, least = rule->least, wide = rule->wide, level = fabs(median);
    const double lower = ordered[size / 4], upper = ordered[3 * size / 4];
    const int astride = rule->relative && wide < INFINITY && ordered[0] < 0.0 && 0.0 < ordered[size - 1];
    *entry = value;
    if (rule->relative && !astride && value > 0.0 && 0.0 < WIDE * lower && WIDE * lower < upper) {
        const double own = log(upper / lower) / IQR, scale = least > own ? least : own;
        if (scale > MOST)
            return -INFINITY;
        double z = (log(value) - log(median)) / scale;
        if (!(-clip <= z && z <= clip))
            *entry = median * exp(copysign(clip, z) * scale);
        return scale > wide ? z * wide / scale : z;
    }
    double scale = (upper - lower) / IQR;
    if (scale < least * level)
        scale = least * level;
    if (lower == upper && rule->relative) {
        if (ordered[0] == ordered[size - 1] && level > 0.0 && value - median > JUMP * level) {
            *entry = median + clip * FLAT * level;
            return INFINITY;
        }
        scale = (FLAT > least ? FLAT : least) * level;
    }
    if (!(scale > ULPS * level && scale > SMALLEST))
        return -INFINITY;
    const double low = median - clip * scale, high = median + clip * scale;
    const double bounded = low > value ? low : value;
    *entry = high < bounded ? high : bounded;
    return astride ? -INFINITY : (value - median) / scale;
}

static PyObject *robust_window(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table values, rows, z, median, count, ring, sorted, needed, least, wide;
    Rule rule;
    if (!take(&arrays, args, n_args, "dNK rK1 DNK DNK QP1 DPW DPW qP1 dP1 dP1 f i", &values, &rows, &z, &median, &count, &ring,
              &sorted, &needed, &least, &wide, &rule.winsorise, &rule.relative))
        return finish(&arrays);
    const Py_ssize_t window = ring.k;
    for (Py_ssize_t j = 0; j < values.k; j++) {
        const Py_ssize_t row = AT(int64_t, rows, j, 0), enough = AT(int64_t, needed, row, 0);
        const int64_t before = AT(int64_t, count, row, 0), total = before < 0 ? 0 : before;
        Py_ssize_t size = total < window ? (Py_ssize_t)total : window, at = (Py_ssize_t)(total % window);
        double *ordered = &AT(double, sorted, row, 0); /* the same as the ring's, which it spares to be sorted */
        rule.least = AT(double, least, row, 0), rule.wide = AT(double, wide, row, 0);
        for (Py_ssize_t i = 0; i < values.n; i++) {
            const double value = clipped(AT(double, values, i, j));
            double score = -INFINITY, middle = value, entry = value;
            if (size >= enough && size > 0) {
                middle = (ordered[(size - 1) / 2] + ordered[size / 2]) / 2;
                score = judge(&rule, value, ordered, size, middle, &entry);
            }
            if (size < window)
                insert(ordered, size++, entry);
            else
                exchange(ordered, window, AT(double, ring, row, at), entry);
            AT(double, ring, row, at) = entry;
            at = at + 1 == window ? 0 : at + 1;
            AT(double, z, i, j) = score;
            AT(double, median, i, j) = middle;
        }
        AT(int64_t, count, row, 0) = total + values.n;
    }
    return finish(&arrays);
}

static PyObject *cusum(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table z, rows, fires, sum, fired, threshold, clip;
    double allowance;
    if (!take(&arrays, args, n_args, "dNK rK1 BNK DP1 BP1 dP1 dP1 f", &z, &rows, &fires, &sum, &fired, &threshold, &clip,
              &allowance))
        return finish(&arrays);
    for (Py_ssize_t j = 0; j < z.k; j++) {
        const Py_ssize_t row = AT(int64_t, rows, j, 0);
        const double most = AT(double, clip, row, 0), enough = AT(double, threshold, row, 0);
        double total = AT(double, sum, row, 0);
        int lasts = AT(char, fired, row, 0) != 0;
        for (Py_ssize_t i = 0; i < z.n; i++) {
            const double value = AT(double, z, i, j);
            AT(char, fires, i, j) = 0;
            if (lasts ? value >= allowance : total == 0.0 && !(value >= allowance))
                continue;
            lasts = 0;
            total += (value > most ? most : value < -most ? -most : value) - allowance;
            if (total < 0.0) {
                total = 0.0;
            } else if (total >= enough || value == INFINITY) {
                AT(char, fires, i, j) = lasts = 1;
                total = 0.0;
            }
        }
        AT(double, sum, row, 0) = total;
        AT(char, fired, row, 0) = (char)lasts;
    }
    return finish(&arrays);
}

static PyObject *residuals(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table values, rows, z, mean, count, first, room, means, variances;
    double decay, clip;
    if (!take(&arrays, args, n_args, "dNK rK1 DNK DNK QP1 DPW DW1 DP1 DP1 f f", &values, &rows, &z, &mean, &count, &first,
              &room, &means, &variances, &decay, &clip))
        return finish(&arrays);
    const Py_ssize_t warm_up = first.k;
    double *ordered = (double *)room.data;
    for (Py_ssize_t j = 0; j < values.k; j++) {
        const Py_ssize_t row = AT(int64_t, rows, j, 0);
        double m = AT(double, means, row, 0), v = AT(double, variances, row, 0);
        int64_t seen = AT(int64_t, count, row, 0);
        Py_ssize_t i = 0;
        for (; i < values.n && seen < warm_up && seen >= 0; i++) {
            const double value = clipped(AT(double, values, i, j));
            AT(double, first, row, (Py_ssize_t)seen++) = value;
            AT(double, z, i, j) = NAN;
            AT(double, mean, i, j) = value;
            if (seen == warm_up) { /* start from the robust moments of what came */
                for (Py_ssize_t place = 0; place < warm_up; place++)
                    insert(ordered, place, AT(double, first, row, place));
                m = (ordered[(warm_up - 1) / 2] + ordered[warm_up / 2]) / 2;
                const double scale = (ordered[3 * warm_up / 4] - ordered[warm_up / 4]) / IQR;
                v = scale * scale;
            }
        }
        AT(int64_t, count, row, 0) = seen;
        for (; i < values.n; i++) {
            const double scale = sqrt(v), level = fabs(m);
            double off = clipped(AT(double, values, i, j)) - m, score = NAN;
            AT(double, mean, i, j) = m;
            if (scale > ULPS * level && scale > SMALLEST) {
                score = off / scale;
                score = score > clip ? clip : score < -clip ? -clip : score;
                off = score * scale;
                if (scale > WIDE_SCALE * level)
                    score *= WIDE_SCALE * level / scale;
            }
            AT(double, z, i, j) = score;
            m += decay * off;
            v += decay * (off * off - v);
        }
        AT(double, means, row, 0) = m;
        AT(double, variances, row, 0) = v;
    }
    return finish(&arrays);
}

/* The k-th smallest of n values, which are moved about so that none before it is larger (Hoare's find). */
static double smallest(double *values, Py_ssize_t n, Py_ssize_t k)
{
    for (Py_ssize_t low = 0, high = n - 1; low < high;) {
        const double pivot = values[k];
        Py_ssize_t i = low, j = high;
        while (i <= j) {
            for (; values[i] < pivot; i++)
                ;
            for (; pivot < values[j]; j--)
                ;
            if (i <= j) {
                const double other = values[i];
                values[i++] = values[j];
                values[j--] = other;
            }
        }
        low = j < k ? i : low;
        high = k < i ? j : high;
    }
    return values[k];
}

/* _medians of one block. */
static double median_of(double *values, Py_ssize_t n)
{
    const double upper = smallest(values, n, n / 2);
    if (n % 2)
        return upper;
    double lower = values[0]; /* what is not above it lies before it now */
    for (Py_ssize_t i = 1; i < n / 2; i++)
        lower = values[i] > lower ? values[i] : lower;
    return (lower + upper) / 2;
}

static PyObject *rolling_moments(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table values, rows, mean, std, count, pivots, room, block, suffix1, suffix2, prefix1, prefix2;
    Py_ssize_t min_samples, as_scores;
    if (!take(&arrays, args, n_args, "dNK rK1 DNK DNK QP1 DP1 DW1 DWP DWP DWP DP1 DP1 i i", &values, &rows, &mean, &std, &count,
              &pivots, &room, &block, &suffix1, &suffix2, &prefix1, &prefix2, &min_samples, &as_scores))
        return finish(&arrays);
    const Py_ssize_t window = block.n;
    double *sorted = (double *)room.data;
    for (Py_ssize_t j = 0; j < values.k; j++) {
        const Py_ssize_t row = AT(int64_t, rows, j, 0);
        double pivot = AT(double, pivots, row, 0), sum1 = AT(double, prefix1, row, 0), sum2 = AT(double, prefix2, row, 0);
        int64_t total = AT(int64_t, count, row, 0);
        total = total < 0 ? 0 : total;
        if (total == 0 && values.n > 0)
            pivot = clipped(AT(double, values, 0, j));
        Py_ssize_t at = (Py_ssize_t)(total % window);
        for (Py_ssize_t i = 0; i < values.n; i++) {
            const double value = clipped(AT(double, values, i, j)), s1 = AT(double, suffix1, at, row) + sum1;
            const double s2 = AT(double, suffix2, at, row) + sum2;
            const Py_ssize_t size = total >= window ? window : total < 1 ? 1 : (Py_ssize_t)total;
            const double offset = s1 / (double)size, squares = s2 - s1 * offset, centre = pivot + offset;
            double spread = NAN, least = ULPS * fabs(centre);
            if (total >= min_samples) {
                spread = sqrt((squares > 0.0 ? squares : 0.0) / (double)(size > 1 ? size - 1 : 1));
                least = least > SMALLEST ? least : SMALLEST;
                if (squares <= RESOLUTION * s2 || spread <= least)
                    spread = 0.0;
            }
            AT(double, mean, i, j) = centre;
            AT(double, std, i, j) = !as_scores ? spread : spread > 0.0 ? (value - centre) / spread : 0.0;
            const double off = value - pivot;
            sum1 += off;
            sum2 += off * off;
            AT(double, block, at, row) = value;
            total++;
            if (++at < window)
                continue;
            /* The block is full: its suffix sums are about its median, and a new one begins. */
            for (at = 0; at < window; at++)
                sorted[at] = AT(double, block, at, row);
            pivot = median_of(sorted, window);
            sum1 = sum2 = 0.0;
            while (at-- > 0) {
                const double own = AT(double, block, at, row) - pivot;
                sum1 = at == window - 1 ? own : sum1 + own;
                sum2 = at == window - 1 ? own * own : sum2 + own * own;
                AT(double, suffix1, at, row) = sum1;
                AT(double, suffix2, at, row) = sum2;
            }
            at = 0;
            sum1 = sum2 = 0.0;
        }
        AT(int64_t, count, row, 0) = total;
        AT(double, pivots, row, 0) = pivot;
        AT(double, prefix1, row, 0) = sum1;
        AT(double, prefix2, row, 0) = sum2;
    }
    return finish(&arrays);
}

static PyObject *page_hinkley(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t n_args)
{
    Arrays arrays = {.n = 0};
    Table values, rows, fires, expected, score, counts, state, weights, inverses;
    Py_ssize_t min_instances, up, down;
    double delta, threshold;
    if (!take(&arrays, args, n_args, "dNK rK1 BNK DNK DNK QP1 D8P dL1 dL1 i f f i i", &values, &rows, &fires, &expected, &score,
              &counts, &state, &weights, &inverses, &min_instances, &delta, &threshold, &up, &down))
        return finish(&arrays);
    const Py_ssize_t length = inverses.n - 1;
    for (Py_ssize_t j = 0; j < values.k && length > 0; j++) {
        const Py_ssize_t row = AT(int64_t, rows, j, 0);
        const int64_t before = AT(int64_t, counts, row, 0);
        int64_t n = before < 0 ? 0 : before;
        double s[8]; /* pivot, total, inc0, dec0, inc1, dec1, low, high */
        for (int place = 0; place < 8; place++)
            s[place] = AT(double, state, place, row);
        Py_ssize_t at = (Py_ssize_t)(n % length);
        for (Py_ssize_t i = 0; i < values.n; i++) {
            const double value = clipped(AT(double, values, i, j));
            AT(char, fires, i, j) = 0;
            if (isnan(value))
                continue;
            if (++n == 1)
                s[0] = value;
            s[1] += value - s[0];
            const double dev = (value - s[0]) - s[1] / (double)n, inverse = AT(double, inverses, at, 0);
            s[4] += (dev - delta) * inverse;
            s[5] += (dev + delta) * inverse;
            const double weight = AT(double, weights, at, 0), after = AT(double, weights, at + 1, 0);
            const double inc = after * s[2] + weight * s[4], dec = after * s[3] + weight * s[5];
            s[6] = inc < s[6] ? inc : s[6];
            s[7] = dec > s[7] ? dec : s[7];
            if (++at == length) {
                at = 0;
                s[2] = inc, s[3] = dec, s[4] = s[5] = 0.0;
            }
            const double rise = up ? inc - s[6] : -INFINITY, fall = down ? s[7] - dec : -INFINITY;
            if (n < min_instances || !(rise > threshold || fall > threshold))
                continue;
            AT(char, fires, i, j) = 1;
            AT(double, expected, i, j) = s[0] + s[1] / (double)n;
            AT(double, score, i, j) = rise >= fall ? rise : -fall;
            n = at = 0;
            s[1] = s[2] = s[3] = s[4] = s[5] = 0.0;
            s[6] = INFINITY, s[7] = -1.0;
        }
        AT(int64_t, counts, row, 0) = n;
        for (int place = 0; place < 8; place++)
            AT(double, state, place, row) = s[place];
    }
    return finish(&arrays);
}

#define KERNEL(name, doc) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, doc}

/* Called with the values, the rows of state of their columns, tables for the results, then the state and settings. */
PyMethodDef kernel_methods[] = {
    KERNEL(robust_window, "RobustWindow.update: z and median."),
    KERNEL(cusum, "Cusum.update: where it fires."),
    KERNEL(residuals, "Residuals.update: z and mean."),
    KERNEL(rolling_moments, "RollingMoments.update: mean and std; or .scores: mean and z."),
    KERNEL(page_hinkley, "PageHinkleyCore.update, without NaN: where it fires, and there expected value and score."),
    {NULL, NULL, 0, NULL},
};
