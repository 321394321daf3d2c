{{- define "tidings.labels" -}}
{{ include "tidings.selector" . }}
app.kubernetes.io/part-of: tidings
app.kubernetes.io/version: {{ include "tidings.label" .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ include "tidings.label" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- end }}

{{- /* A text as a label's value may be, or an image's tag: a version may have build metadata behind a "+". */ -}}
{{- define "tidings.label" -}}
{{ . | replace "+" "_" | trunc 63 | trimSuffix "-" | trimSuffix "_" | trimSuffix "." }}
{{- end }}

{{- /* The value of an environment variable: Helm has whole numbers as floats, and would write a million as 1e+06. */ -}}
{{- define "tidings.text" -}}
{{ if kindIs "float64" . }}{{ if eq . (floor .) }}{{ printf "%.0f" . }}{{ else }}{{ toJson . }}{{ end }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{- /* What belongs to no namespace: an operator that looks after some namespaces leaves room for others beside it. */ -}}
{{- define "tidings.suffix" -}}
{{ if .Values.namespaces }}-{{ .Release.Namespace }}{{ end }}
{{- end }}

{{- define "tidings.selector" -}}
app.kubernetes.io/name: tidings-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
