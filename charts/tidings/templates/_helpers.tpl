{{- define "tidings.labels" -}}
{{ include "tidings.selector" . }}
app.kubernetes.io/part-of: tidings
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tidings.selector" -}}
app.kubernetes.io/name: tidings-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
