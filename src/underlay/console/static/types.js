/**
 * The records of the console's JSON, as `underlay.domain` defines them.
 *
 * @typedef {{prompt_tokens: number, cached_tokens: number, completion_tokens: number}} Usage
 *
 * @typedef {{name: string, start_ms: number, duration_ms: number, who: string, why: string,
 *   tokens: number | null, attempt: number | null, joules: number | null}} Hop
 *
 * @typedef {{value: number, unit: string, method: string, meter?: string, boundary?: string,
 *   uncertainty?: number, source?: string, version?: string}} Figure
 *
 * @typedef {{status: string, joules: number | null, uncertainty_joules: number | null, method: string,
 *   meter: string, boundary: string, accounts: Record<string, number>, unmetered_s: number,
 *   carbon: Record<string, Figure>, water: Record<string, Figure>, cost: Record<string, Figure>,
 *   beside: Record<string, Figure>, margin: Figure | null}} Energy
 *
 * @typedef {{id: string, at_s: number, dialect: string, operation: string, model: string, tenant: string,
 *   key_id: string, outcome: string, status: number, usage: Usage, money_usd: string, duration_ms: number,
 *   ttft_ms: number | null, attempts: number, hops: Hop[], trace_id: string, reason: string,
 *   ignored: string[], energy: Energy | null}} Journey
 *
 * @typedef {{name: string, model: string, state: string, engine: string, address: string,
 *   pid: number | null, slots: number, load: number, restarts: number, served: number,
 *   resident_mb: number | null, uptime_s: number, why: string,
 *   gauges: Record<string, number>}} Replica
 *
 * @typedef {{version: string, pid: number, public_url: string, console_url: string, uptime_s: number,
 *   open_requests: number, waiting: number, ready: boolean, models: string[],
 *   totals: Record<string, unknown>}} Platform
 *
 * @typedef {{id: string, created_s: number, context_tokens: number, owned_by: string,
 *   operations: string[]}} ModelCard
 *
 * @typedef {{public_url: string, key: string, models: ModelCard[]}} Session
 */
export {};
